"""``flask ws connect``: a WebSocket client in the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from urllib.parse import SplitResult

import click
import flask
from flask.cli import NoAppException, ScriptInfo

from flask_ws.system import WINDOWS
from flask_ws.wording import describe_close, one_line

from .conversation import Message, converse, converse_on_terminal, keep_alive, read_input
from .editor import find_editor
from .handshake import Headers, Opened, Trust, open_url
from .messages import Display
from .parameters import header_option, insecure_option, parse_url

__all__ = ["connect", "exit_code"]

#: Where ``flask run`` serves.
DEVELOPMENT_SERVER = "ws://127.0.0.1:5000"


@click.command("connect")
@click.argument("url", callback=parse_url)
@click.option(
    "subprotocols",
    "--subprotocol",
    metavar="NAME",
    multiple=True,
    help="Offer a subprotocol. Can be given several times, the preferred one first.",
)
@header_option(help="Send a header with the handshake. Can be given several times.")
@click.option("--origin", metavar="URL", help="Send this Origin, as a page of that site does.")
@click.option(
    "messages",
    "-x",
    "--execute",
    metavar="MESSAGE",
    multiple=True,
    help="Send a message, in place of the input. Can be given several times.",
)
@click.option(
    "--binary",
    is_flag=True,
    help="Send binary messages: a line each, or all of a file or a pipe as one. Where the output "
    "is one, write those that come as they are.",
)
@click.option(
    "indent_json",
    "--json/--no-json",
    default=None,
    help="Indent messages that are JSON, or do not. By default they are indented on a terminal.",
)
@click.option("--include", "-i", is_flag=True, help="Show the headers of the response.")
@click.option(
    "--ca",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="With wss, trust the certificates in this file (PEM), not the system's.",
)
@insecure_option
@click.option(
    "--ping",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds between pings; a server that has not answered by the next is given up.",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that the handshake may take.",
)
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds to go on receiving after the end of the input.",
)
@click.option(
    "--max-size",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=2**24,
    show_default=True,
    help="The largest message to receive, after decompression.",
)
@click.pass_context
def connect(
    context: click.Context,
    url: SplitResult,
    subprotocols: tuple[str, ...],
    headers: Headers,
    origin: str | None,
    messages: tuple[str, ...],
    binary: bool,
    indent_json: bool | None,
    include: bool,
    ca: str | None,
    insecure: bool,
    ping: float | None,
    timeout: float,
    wait: float,
    max_size: int,
) -> None:
    """Connect to a WebSocket URL: ws://host/path, or wss://host/path.

    With /path alone, to the app of 'flask --app', without a server.

    Each line of input is sent as a text message; each message that comes is written to the
    output. The end of the input (Ctrl-D; on Windows, Ctrl-Z and Enter) and an interrupt (Ctrl-C)
    close the connection. On a terminal, lines can be edited, and recalled with the arrow keys:
    best with prompt_toolkit, which pip install "flask-ws[cli]" brings.

    \b
    The exit code tells how the connection ended:
      0          closed with 1000 or 1001, or without a code
      1          there was none: unreachable, or the handshake was refused
      2          the command line is wrong
      3, 4       closed with a code of 3000 to 3999, of 4000 to 4999
      102 - 115  closed with 1002 to 1015: 106 is a lost connection (1006),
                 111 an exception in the handler (1011)
    """  # noqa: D301
    if origin is not None:
        headers = [*headers, ("Origin", origin)]

    def show_head(lines: list[str]) -> None:
        if include:
            click.echo("\n".join([*map(one_line, lines), ""]), err=True)

    def encode(line: str) -> Message:
        return line.encode() if binary else line

    opening: contextlib.AbstractContextManager[Opened]
    if url.scheme:
        opening = open_url(
            url,
            headers,
            subprotocols,
            trust=Trust(ca, insecure),
            timeout=timeout,
            max_size=max_size,
            show_head=show_head,
        )
    else:
        # Here, as it imports the test client.
        from .in_app import open_in_app

        opening = open_in_app(
            _load_app(context, url),
            url.geturl(),
            headers,
            subprotocols,
            timeout=timeout,
            show_head=show_head,
        )
    with opening as opened:
        connection = opened.connection
        _announce(opened, subprotocols)
        display = Display(indent_json=indent_json, raw=binary)
        editor = None if messages else find_editor()
        with keep_alive(connection, ping):
            if editor is not None:
                _explain_keys()
                converse_on_terminal(connection, editor, display, encode)
            elif messages:
                converse(connection, map(encode, messages), display, wait)
            elif binary and not sys.stdin.isatty():
                converse(connection, _read_all(), display, wait)
            else:
                if sys.stdin.isatty():
                    _explain_keys()
                converse(connection, read_input(encode), display, wait)
    code = connection.close_code or 0
    click.echo(f"Closed: {describe_close(code, connection.close_reason)}", err=True)
    context.exit(exit_code(code))


def _load_app(context: click.Context, url: SplitResult) -> flask.Flask:
    try:
        return context.ensure_object(ScriptInfo).load_app()
    except NoAppException as error:
        path = url.geturl()
        raise click.ClickException(
            f"{error.format_message()}\n\nA path alone is one of an app: flask --app NAME ws "
            f"connect {path}. On a server, did you mean {DEVELOPMENT_SERVER}{path}?"
        ) from None


def _announce(opened: Opened, subprotocols: tuple[str, ...]) -> None:
    details = [f"subprotocol {opened.subprotocol}"] if opened.subprotocol else []
    if subprotocols and not opened.subprotocol:
        details = ["without a subprotocol: the server speaks none of these"]
    details += ["compressed"] if opened.compressed else []
    click.echo(f"{', '.join(['Connected', *details])}.", err=True)


def _explain_keys() -> None:
    end = "Ctrl-Z and Enter close" if WINDOWS else "Ctrl-D closes"
    click.echo(f"Each line that you type is sent. {end} the connection.", err=True)


def _read_all() -> Iterator[bytes]:
    # Raw, for the reason that read_input() has.
    yield sys.stdin.buffer.raw.readall()  # type: ignore[union-attr]


def exit_code(code: int) -> int:
    """Return the command's exit code for a close code."""
    if code in (1000, 1001, 1005):
        return 0
    return code // 1000 if code >= 3000 else code - 900
