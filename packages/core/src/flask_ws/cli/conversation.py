"""Sending what is typed or piped, and showing what arrives, until the connection ends."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import click

from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint
from flask_ws.exceptions import ConnectionClosed
from flask_ws.loop.keepalive import Watch
from flask_ws.loop.monitor import monitor_for
from flask_ws.system import TIMEOUT_MAX

from .editor import Editor
from .handshake import CLOSE_TIMEOUT
from .messages import Display

__all__ = ["converse", "converse_on_terminal", "keep_alive", "read_input"]

Message = str | bytes

#: Seconds that the server has to close TCP first (RFC 6455 section 7.1.1).
LINGER = 1.0


@contextlib.contextmanager
def keep_alive(connection: Connection, interval: float | None) -> Iterator[None]:
    """Send pings, and lose the connection when there is no answer.

    :param interval: seconds between pings, and for an answer; ``None`` for no pings.
    """
    if interval is None:
        yield
        return
    monitor = monitor_for(connection.concurrency)
    monitor.add(
        Watch(
            connection,
            ping_interval=interval,
            ping_timeout=interval,
            close_timeout=CLOSE_TIMEOUT,
            is_stopping=lambda: False,
        )
    )
    try:
        yield
    finally:
        monitor.remove(connection)


def converse(
    connection: Connection, messages: Iterable[Message], display: Display, wait: float
) -> None:
    """Send messages, and show those that come, until the connection ends.

    :param messages: what to send; it may wait for input.
    :param wait: seconds to go on receiving after the last of them.
    """
    ws = Endpoint(connection)
    ended = threading.Event()

    def send_all() -> None:
        try:
            for message in messages:
                ws.send(message)
        except ConnectionClosed:
            return
        if ended.wait(min(wait, TIMEOUT_MAX)):
            return
        if wait and not display.used:
            click.echo(
                f"No message has come within {wait:g} s. --wait SECONDS waits longer.", err=True
            )
        ws.close()

    threads.spawn(send_all, "flask_ws.cli")
    try:
        for message in ws:
            display.write(message)
    except KeyboardInterrupt:
        if sys.stdin.isatty():
            # The terminal has printed ^C: end that line.
            click.echo(err=True)
        ws.close()
    finally:
        ended.set()
        _release(connection)


def converse_on_terminal(
    connection: Connection,
    editor: Editor,
    display: Display,
    encode: Callable[[str], Message],
) -> None:
    """Send the lines that are typed, and show the messages that come, until the connection ends.

    :param editor: reads the lines.
    :param encode: makes a message of a line.
    """
    ws = Endpoint(connection)

    def show_all() -> None:
        try:
            for message in ws:
                editor.show(lambda message=message: display.write(message))  # type: ignore[misc]
        finally:
            editor.end()

    receiving = threading.Thread(target=show_all, name="flask_ws.cli", daemon=True)
    receiving.start()
    try:
        for line in editor.lines():
            ws.send(encode(line))
    except (ConnectionClosed, KeyboardInterrupt):
        pass
    finally:
        ws.close()
        _release(connection)
        receiving.join(LINGER)


def _release(connection: Connection) -> None:
    connection.state.linger_until = time.monotonic() + LINGER
    connection.release()


def read_input(encode: Callable[[str], Message]) -> Iterator[Message]:
    """Read messages from the standard input: one a line.

    From the raw stream: a thread that waits in the buffered ``sys.stdin`` blocks the end of the
    process. Not from the file descriptor: there, a Windows console has another encoding, and no end
    of the input.

    :param encode: makes a message of a line.
    """
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    encoding = sys.stdin.encoding or "utf-8"
    rest = b""
    while data := raw.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield encode(line.removesuffix(b"\r").decode(encoding, "replace"))
    if rest:
        yield encode(rest.decode(encoding, "replace"))
