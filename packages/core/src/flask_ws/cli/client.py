"""``flask ws connect``: a WebSocket client in the terminal."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import SplitResult, quote, unquote, urlsplit

import click
from markupsafe import Markup

from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint
from flask_ws.connection.transport import PlainTransport, TLSTransport
from flask_ws.exceptions import ConnectionClosed
from flask_ws.http.handshake import accept_value
from flask_ws.plugin.sockets import take_buffered
from flask_ws.protocol.deflate import Deflate, DeflateParameters, parse_agreed
from flask_ws.protocol.protocol import Protocol
from flask_ws.system import TIMEOUT_MAX, WINDOWS
from flask_ws.wording import describe_close, one_line, printable

__all__ = ["connect", "exit_code"]

SWITCHING_PROTOCOLS = 101

#: Where ``flask run`` serves.
DEVELOPMENT_SERVER = "ws://127.0.0.1:5000"
#: Seconds that a closing handshake may take.
CLOSE_TIMEOUT = 5.0
#: Messages that are kept while the terminal is busy.
MAX_QUEUE = 16
#: The part of a refusal's body, and of a binary message, that is shown.
SHOWN_TEXT = 1000
SHOWN_BYTES = 32
#: What to do about a refusal that does not say why.
HINTS = {
    200: (
        "An ordinary response to an ordinary request: this URL is no WebSocket, or a proxy on the "
        "way does not pass the headers Upgrade and Connection on."
    ),
    404: "The command 'flask ws routes' lists the WebSocket routes of an app.",
}
HEADLINE = re.compile(r"<(title|h1)>.*?</\1>", re.DOTALL)
#: What is offered to the server.
EXTENSIONS = "permessage-deflate; client_max_window_bits"

#: What stays as it is in a URL: all that may be in one, and what is quoted already.
UNQUOTED = "/?%:@!$&'()*+,;=~[]"


def _parse_url(_context: click.Context, _parameter: click.Parameter, url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # Reading either may raise ValueError.
        known = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    if parts.scheme not in ("ws", "wss") or not known:
        hint = f" Did you mean {meant}?" if (meant := _guess(url)) else ""
        raise click.BadParameter(
            f"{url!r} is not of the form ws://host/path or wss://host/path.{hint}"
        )
    return parts


def _guess(url: str) -> str | None:
    """Return the URL that the user may have meant."""
    if match := re.fullmatch(r"http(s?)(://.+)", url):
        return f"ws{match[1]}{match[2]}"
    if re.fullmatch(r"/[^/].*", url):
        return DEVELOPMENT_SERVER + url
    # A name with a dot or a port, or that of this machine.
    if re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+|\[[\da-f:]+\]|[\w.-]+:\d+)(:\d+)?(/.*)?", url):
        return f"ws://{url}"
    return None


def _parse_headers(
    _context: click.Context, _parameter: click.Parameter, headers: tuple[str, ...]
) -> list[tuple[str, str]]:
    parsed = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII) or not colon:
            raise click.BadParameter(f"{header!r} is not of the form 'Name: value'.")
        if not value.isprintable():
            raise click.BadParameter(f"{header!r} has a control character.")
        parsed.append((name, value.strip()))
    return parsed


@click.command("connect")
@click.argument("url", callback=_parse_url)
@click.option(
    "subprotocols",
    "--subprotocol",
    metavar="NAME",
    multiple=True,
    help="Offer a subprotocol. Can be given several times, the preferred one first.",
)
@click.option(
    "headers",
    "--header",
    "-H",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=_parse_headers,
    help="Send a header with the handshake. Can be given several times.",
)
@click.option("--include", "-i", is_flag=True, help="Show the headers of the response.")
@click.option("--insecure", is_flag=True, help="With wss, accept any certificate.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that the handshake may take.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds to go on receiving at the end of the input.",
)
@click.option(
    "--max-size",
    type=click.IntRange(min=1),
    default=2**24,
    show_default=True,
    help="The largest message to receive, in bytes, after decompression.",
)
@click.pass_context
def connect(
    context: click.Context,
    url: SplitResult,
    subprotocols: tuple[str, ...],
    headers: list[tuple[str, str]],
    include: bool,
    insecure: bool,
    timeout: float,
    wait: float,
    max_size: int,
) -> None:
    """Connect to a WebSocket URL: ws://host/path or wss://host/path.

    Each line of input is sent as a text message; each message that comes is written to the
    output. The end of the input (Ctrl-D; on Windows, Ctrl-Z and Enter) and an interrupt (Ctrl-C)
    close the connection.

    \b
    The exit code tells how the connection ended:
      0          closed with 1000 or 1001, or without a code
      1          there was none: unreachable, or the handshake was refused
      2          the command line is wrong
      3, 4       closed with a code of 3000 to 3999, of 4000 to 4999
      102 - 115  closed with 1002 to 1015: 106 is a lost connection (1006),
                 111 an exception in the handler (1011)
    """  # noqa: D301
    key = base64.b64encode(os.urandom(16)).decode()
    sent = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Extensions", EXTENSIONS),
        ("Sec-WebSocket-Protocol", ", ".join(subprotocols)),
        ("Authorization", _make_credentials(url)),
    ]
    own = {name.lower() for name, _ in headers}
    headers = [(name, value) for name, value in sent if value and name.lower() not in own] + headers
    with contextlib.ExitStack() as stack:
        client = _make_client(url, min(timeout, TIMEOUT_MAX), insecure)
        stack.callback(client.close)
        response = _request(client, url, headers)
        stack.callback(response.close)
        if include:
            _show_head(response)
        agreed = _check(response, dict(headers).get("Sec-WebSocket-Key", key), subprotocols)
        connection = _open(client, response, agreed, max_size)
        subprotocol = response.getheader("Sec-WebSocket-Protocol")
        details = [f"subprotocol {subprotocol}"] if subprotocol else []
        if subprotocols and not subprotocol:
            details = ["without a subprotocol: the server speaks none of these"]
        details += ["compressed"] if agreed else []
        click.echo(f"{', '.join(['Connected', *details])}.", err=True)
        if sys.stdin.isatty():
            end = "Ctrl-Z and Enter close" if WINDOWS else "Ctrl-D closes"
            click.echo(f"Each line that you type is sent. {end} the connection.", err=True)
        _converse(connection, wait)
    code = connection.close_code or 0
    click.echo(f"Closed: {describe_close(code, connection.close_reason)}", err=True)
    context.exit(exit_code(code))


def _make_credentials(url: SplitResult) -> str:
    """Return the credentials of ``ws://name:password@host/`` for the header (RFC 7617)."""
    if url.username is None:
        return ""
    text = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def exit_code(code: int) -> int:
    """Return the command's exit code for a close code."""
    if code in (1000, 1001, 1005):
        return 0
    return code // 1000 if code >= 3000 else code - 900


def _make_client(url: SplitResult, timeout: float, insecure: bool) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "ws":
        return http.client.HTTPConnection(host, url.port, timeout=timeout)
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, url.port, timeout=timeout, context=context)


def _request(
    client: http.client.HTTPConnection, url: SplitResult, headers: list[tuple[str, str]]
) -> http.client.HTTPResponse:
    """Send the handshake; return the answer."""
    target = quote(url.path or "/", UNQUOTED)
    if url.query:
        target += "?" + quote(url.query, UNQUOTED)
    has_host = any(name.lower() == "host" for name, _ in headers)
    try:
        client.putrequest("GET", target, skip_host=has_host, skip_accept_encoding=True)
        for name, value in headers:
            client.putheader(name, value.encode())
        client.endheaders()
        return client.getresponse()
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise click.ClickException(
            f"No connection to {url.geturl()}: {_explain(error, url)}"
        ) from None


def _explain(error: Exception, url: SplitResult) -> str:
    """Say what went wrong, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}. --insecure accepts any certificate."
    if isinstance(error, ssl.SSLError):
        other = url._replace(scheme="ws").geturl()
        return f"the server may not speak TLS on this port; if so, try {other} ({error})"
    if isinstance(error, ConnectionRefusedError):
        return "Connection refused. Is the server running, and is this its port?"
    if isinstance(error, socket.gaierror):
        return f"there is no host {url.hostname!r} ({error.strerror})"
    if isinstance(error, TimeoutError):
        return "timed out. --timeout gives the server more time to answer the handshake."
    if url.scheme == "ws" and isinstance(error, (http.client.BadStatusLine, ConnectionError)):
        # What a server says in HTTP to a client that it expects to speak TLS, if it says it.
        other = url._replace(scheme="wss").geturl()
        return (
            "the server did not answer in HTTP; if it speaks TLS on this port, try "
            f"{other} ({type(error).__name__}: {one_line(str(error))})"
        )
    return f"{type(error).__name__}: {one_line(str(error))}"


def _show_head(response: http.client.HTTPResponse) -> None:
    head = f"HTTP/1.{response.version % 10} {response.status} {response.reason}"
    click.echo(one_line(head), err=True)
    for name, value in response.getheaders():
        click.echo(one_line(f"{name}: {value}"), err=True)
    click.echo(err=True)


def _check(
    response: http.client.HTTPResponse, key: str, subprotocols: tuple[str, ...]
) -> DeflateParameters | None:
    """Check the answer to the handshake (RFC 6455 section 4.1); return what was agreed on.

    :raises ClickException: it is a refusal, or wrong.
    """
    if response.status != SWITCHING_PROTOCOLS:
        raise click.ClickException(f"The handshake was refused: {_describe_refusal(response)}")
    wrong = None
    if response.version < 11:
        wrong = "it is not of HTTP/1.1"
    elif (response.getheader("Upgrade") or "").lower() != "websocket":
        wrong = "it does not upgrade to websocket"
    elif "upgrade" not in re.split(r"\s*,\s*", (response.getheader("Connection") or "").lower()):
        wrong = "it has no Connection: Upgrade"
    elif response.getheader("Sec-WebSocket-Accept") != accept_value(key):
        wrong = "its Sec-WebSocket-Accept is not the answer to the key"
    elif response.getheader("Sec-WebSocket-Protocol") not in (None, *subprotocols):
        wrong = "it chooses a subprotocol that was not offered"
    try:
        agreed = parse_agreed(response.getheader("Sec-WebSocket-Extensions") or "")
    except ValueError as error:
        wrong = wrong or str(error)
    if wrong:
        raise click.ClickException(f"The server's answer is wrong: {one_line(wrong)}.")
    return agreed


def _describe_refusal(response: http.client.HTTPResponse) -> str:
    described = one_line(f"{response.status} {response.reason}")
    if location := response.getheader("Location"):
        return f"{described}, to {one_line(location)}"
    try:
        text = response.read(SHOWN_TEXT).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    if response.headers.get_content_type() == "text/html":
        # The title repeats the status.
        text = Markup(HEADLINE.sub("", text)).striptags()  # noqa: S704
    hint = HINTS.get(response.status, "")
    return "\n".join(filter(None, [described, printable(text.strip()), hint]))


def _open(
    client: http.client.HTTPConnection,
    response: http.client.HTTPResponse,
    agreed: DeflateParameters | None,
    max_size: int,
) -> Connection:
    deflate = None if agreed is None else Deflate(agreed, client=True, max_size=max_size)
    sock = client.sock
    early = take_buffered(response.fp, sock)
    # It holds a reference to the socket, which would stay open.
    response.close()
    make_transport = TLSTransport if isinstance(sock, ssl.SSLSocket) else PlainTransport
    connection = Connection(
        make_transport(sock, threads, sock.close),
        Protocol(client=True, deflate=deflate, max_message_size=max_size),
        concurrency=threads,
        close_timeout=CLOSE_TIMEOUT,
        max_queue=MAX_QUEUE,
    )
    connection.begin(b"", early)
    return connection


def _converse(connection: Connection, wait: float) -> None:
    """Send the lines of the input, write the messages that come, until the connection ends."""
    ws = Endpoint(connection)
    ended = threading.Event()

    def send_lines() -> None:
        try:
            for line in _read_lines():
                ws.send(line)
        except ConnectionClosed:
            return
        if not ended.wait(min(wait, TIMEOUT_MAX)):
            ws.close()

    threads.spawn(send_lines, "flask_ws.cli")
    # On a terminal, it tells messages from the lines that were typed.
    prefix = "< " if sys.stdout.isatty() else ""
    try:
        for message in ws:
            click.echo(prefix + _format(message))
    except KeyboardInterrupt:
        if sys.stdin.isatty():
            # The terminal has printed ^C: end that line.
            click.echo(err=True)
        ws.close()
    finally:
        ended.set()
        # The server closes first, if it does so within a second (RFC 6455 section 7.1.1).
        connection.state.linger_until = time.monotonic() + 1
        connection.release()


def _read_lines() -> Iterator[str]:
    """Read lines from the standard input.

    From the raw stream: a thread that waits in the buffered ``sys.stdin`` blocks the end of the
    process. Not from the file descriptor: there, a Windows console has another encoding, and no end
    of the input.
    """
    raw = sys.stdin.buffer.raw  # type: ignore[union-attr]
    encoding = sys.stdin.encoding or "utf-8"
    rest = b""
    while data := raw.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode(encoding, "replace")
    if rest:
        yield rest.decode(encoding, "replace")


def _format(message: str | bytes) -> str:
    if isinstance(message, str):
        return printable(message) if sys.stdout.isatty() else message
    more = " ..." if len(message) > SHOWN_BYTES else ""
    return f"<binary, {len(message)} bytes: {message[:SHOWN_BYTES].hex(' ')}{more}>"
