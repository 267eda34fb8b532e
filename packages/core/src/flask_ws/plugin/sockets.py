"""For authors of plugins: a socket from a file descriptor, and what a server read ahead."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..exceptions import NoSocket
from ..system import WINDOWS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BorrowedSocket", "borrow_socket", "take_buffered", "unwrap_input"]

#: The most streams that are searched for the server's own.
MOST_WRAPPERS = 32
#: What is bound to a stream.
METHODS = (types.MethodType, types.BuiltinMethodType)


class BorrowedSocket(socket.socket):
    """A socket on a server's descriptor, which only the server closes."""

    def close(self) -> None:
        """Detach from the descriptor, and leave it open."""
        self.detach()

    def __del__(self) -> None:
        # Overrides the parent's, which would close the descriptor.
        self.detach()


def borrow_socket(fd: int) -> socket.socket:
    """Make a socket object of a descriptor that a server owns and will close.

    For plugins whose server keeps its connections outside Python.

    :param fd: the number of the descriptor.
    :return: a socket that can be used like any other, and that leaves the descriptor open when it
        is closed or garbage.
    :raises OSError: ``fd`` is not a socket.
    """
    # With a default timeout, a new socket object makes its descriptor non-blocking. Windows cannot
    # tell the mode of a descriptor, so it is not restored there.
    blocking = None if WINDOWS else os.get_blocking(fd)
    sock = BorrowedSocket(fileno=fd)
    if blocking is not None:
        sock.setblocking(blocking)
    return sock


def unwrap_input(environ: WSGIEnvironment, is_own: Callable[[Any], bool]) -> Any:
    """Find a server's own ``wsgi.input``, where middleware around the app has wrapped it.

    For plugins whose server has its socket, or what it read ahead, behind that stream. Middleware
    between Flask and flask-ws makes no difference: the hook is called before it.

    :param environ: the WSGI environ of the request.
    :param is_own: tells the server's own stream from others; it must not raise.
    :return: the stream.
    :raises NoSocket: it is not found in the attributes of the wrappers.
    """
    streams = [environ.get("wsgi.input")]
    # The list grows during the loop.
    for stream in streams:
        if is_own(stream):
            return stream
        for held in (*getattr(stream, "__dict__", {}).values(), getattr(stream, "raw", None)):
            # Some wrappers keep only methods of the stream, such as that of Werkzeug < 2.3.
            other = held.__self__ if isinstance(held, METHODS) else held
            if hasattr(other, "read") and not any(other is known for known in streams):
                streams.append(other)
        if len(streams) > MOST_WRAPPERS:
            break
    raise NoSocket(
        f"Middleware around the app has put {type(streams[0]).__name__} in front of the server's "
        "wsgi.input, and flask-ws cannot look behind it. Set it on app.wsgi_app before Sock(app), "
        "so that flask-ws comes first; or let it leave handshakes alone."
    )


def take_buffered(reader: io.BufferedReader, sock: socket.socket) -> bytes:
    """Take what a buffered reader holds, and what its socket has right now.

    Servers read a request head through a buffer, and may have read the client's first frames
    with it. For plugins whose server keeps such a reader.

    :param reader: the server's reader of ``sock``.
    :param sock: the server's socket.
    :return: the bytes, which the reader does not hold any more; none if the connection is lost,
        which whoever reads next will find.
    :raises ValueError: ``reader`` reads another socket, for which it would wait.
    """
    try:
        number = reader.fileno()
    except (AttributeError, io.UnsupportedOperation):
        # A reader of the server's own class has no file descriptor.
        number = sock.fileno()
    if number != sock.fileno():
        raise ValueError(
            f"reader does not read sock, but descriptor {number}: give the server's own socket, "
            "not a duplicate."
        )
    timeout = sock.gettimeout()
    # Not settimeout(0): with it eventlet's TLS socket times out instead of saying "not now".
    sock.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError, ConnectionError, ssl.SSLError):
            size = len(reader.peek(1))
            if size:
                return reader.read1(size)
        return b""
    finally:
        sock.settimeout(timeout)
