"""``flask ws connect``: the handshake with a server, from the URL to an open connection."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote

import click
from markupsafe import Markup

from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.tls import TLSTransport
from flask_ws.connection.transport import PlainTransport
from flask_ws.http.handshake import accept_value
from flask_ws.plugin.sockets import take_buffered
from flask_ws.protocol.deflate import Deflate, DeflateParameters, parse_agreed
from flask_ws.protocol.protocol import Protocol
from flask_ws.system import TIMEOUT_MAX
from flask_ws.wording import one_line, printable

__all__ = [
    "CLOSE_TIMEOUT",
    "Headers",
    "Opened",
    "Trust",
    "describe_refusal",
    "make_target",
    "open_url",
]

Headers = list[tuple[str, str]]

SWITCHING_PROTOCOLS = 101

#: Seconds that a closing handshake may take.
CLOSE_TIMEOUT = 5.0
#: Messages that are kept while the terminal is busy.
MAX_QUEUE = 16
#: The part of a refusal's body that is shown.
SHOWN_TEXT = 1000
#: What to do about a refusal that does not say why.
HINTS = {
    200: (
        "The server answered as to an ordinary request: this URL is not a WebSocket, or a proxy on "
        "the way does not pass the headers Upgrade and Connection on."
    ),
    404: "The command 'flask ws routes' lists the WebSocket routes of an app.",
}
HEADLINE = re.compile(r"<(title|h1)>.*?</\1>", re.DOTALL)
#: What is offered to the server.
EXTENSIONS = "permessage-deflate; client_max_window_bits"

#: What stays as it is in a URL: all that may be in one, and what is quoted already.
UNQUOTED = "/?%:@!$&'()*+,;=~[]"


@dataclass(frozen=True)
class Trust:
    """Which certificates are accepted.

    :param file: the name of a file with those of authorities; ``None`` for the system's.
    :param everything: whether any is.
    """

    file: str | None = None
    everything: bool = False


@dataclass(frozen=True)
class Opened:
    """A connection that is open, and what was agreed on."""

    connection: Connection
    #: The subprotocol that was agreed on.
    subprotocol: str | None
    #: Whether messages may be compressed.
    compressed: bool


@contextlib.contextmanager
def open_url(
    url: SplitResult,
    headers: Headers,
    subprotocols: tuple[str, ...],
    *,
    trust: Trust,
    timeout: float,
    max_size: int,
    show_head: Callable[[list[str]], object],
) -> Iterator[Opened]:
    """Connect to a server.

    :param url: the URL, of the scheme ``ws`` or ``wss``.
    :param headers: headers to send besides those of a handshake, or in their place.
    :param subprotocols: the subprotocols to offer.
    :param trust: which certificates to accept.
    :param timeout: seconds that the handshake may take.
    :param max_size: bytes of the largest message to receive, after decompression.
    :param show_head: called with the status line and the headers of the answer, whatever it is.
    :raises ClickException: there is no connection, or the handshake is refused.
    """
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
        client = _make_client(url, trust, min(timeout, TIMEOUT_MAX))
        stack.callback(client.close)
        response = _request(client, url, headers)
        stack.callback(response.close)
        head = f"HTTP/1.{response.version % 10} {response.status} {response.reason}"
        show_head([head, *(f"{name}: {value}" for name, value in response.getheaders())])
        agreed = _check(response, dict(headers).get("Sec-WebSocket-Key", key), subprotocols)
        yield Opened(
            _open(client, response, agreed, max_size),
            response.getheader("Sec-WebSocket-Protocol"),
            agreed is not None,
        )


def _make_credentials(url: SplitResult) -> str:
    """Return the credentials of ``ws://name:password@host/`` for the header (RFC 7617)."""
    if url.username is None:
        return ""
    text = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return f"Basic {base64.b64encode(text.encode()).decode()}"


def _make_client(url: SplitResult, trust: Trust, timeout: float) -> http.client.HTTPConnection:
    host = url.hostname or ""
    if url.scheme == "ws":
        return http.client.HTTPConnection(host, url.port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=trust.file)
    except ssl.SSLError as error:
        raise click.BadParameter(
            f"{trust.file!r} has no certificates in PEM format.", param_hint="'--ca'"
        ) from error
    if trust.everything:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, url.port, timeout=timeout, context=context)


def make_target(url: SplitResult) -> str:
    """Return what a request asks for, quoted."""
    target = quote(url.path or "/", UNQUOTED)
    return f"{target}?{quote(url.query, UNQUOTED)}" if url.query else target


def _request(
    client: http.client.HTTPConnection, url: SplitResult, headers: list[tuple[str, str]]
) -> http.client.HTTPResponse:
    """Send the handshake; return the answer."""
    target = make_target(url)
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
        return (
            f"{error.verify_message}. --ca trusts another authority, and --insecure any "
            "certificate."
        )
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


def _check(
    response: http.client.HTTPResponse, key: str, subprotocols: tuple[str, ...]
) -> DeflateParameters | None:
    """Check the answer to the handshake (RFC 6455 section 4.1); return what was agreed on.

    :raises ClickException: it is a refusal, or wrong.
    """
    if response.status != SWITCHING_PROTOCOLS:
        raise click.ClickException(_read_refusal(response))
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


def _read_refusal(response: http.client.HTTPResponse) -> str:
    try:
        text = response.read(SHOWN_TEXT).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""
    return describe_refusal(
        f"{response.status} {response.reason}",
        response.getheader("Location"),
        response.headers.get_content_type(),
        text,
    )


def describe_refusal(status: str, location: str | None, mimetype: str, text: str) -> str:
    """Describe a response to a handshake that is no 101.

    :param status: its status, with the number first.
    :param location: where it redirects to.
    :param mimetype: the type of its body.
    :param text: the body.
    """
    described = one_line(status)
    if location:
        return f"The handshake was refused: {described}, to {one_line(location)}"
    if mimetype == "text/html":
        # The title repeats the status.
        text = Markup(HEADLINE.sub("", text)).striptags()  # noqa: S704
    shown = printable(text[:SHOWN_TEXT].strip())
    hint = HINTS.get(int(status[:3]), "")
    return "\n".join(filter(None, [f"The handshake was refused: {described}", shown, hint]))


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
