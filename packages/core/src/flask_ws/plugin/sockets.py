"""For authors of plugins: a socket of a descriptor, and what a server has read ahead."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl

from ..system import WINDOWS

__all__ = ["BorrowedSocket", "borrow_socket", "take_buffered"]


class BorrowedSocket(socket.socket):
    """A socket on a server's descriptor, which only the server closes."""

    def close(self) -> None:
        """Let go of the descriptor."""
        self.detach()

    def __del__(self) -> None:
        # In place of the parent's, which would close it.
        self.detach()


def borrow_socket(fd: int) -> socket.socket:
    """Make a socket object of a descriptor that a server owns and will close.

    For plugins whose server keeps its connections outside Python.

    :param fd: the number of the descriptor.
    :return: a socket that can be used like any other, and that leaves the descriptor open when it
        is closed or garbage.
    :raises OSError: ``fd`` is not a socket.
    """
    # Where the process has a default timeout, that would make the descriptor non-blocking. Windows
    # cannot tell; there it stays as it is.
    blocking = None if WINDOWS else os.get_blocking(fd)
    sock = BorrowedSocket(fileno=fd)
    if blocking is not None:
        sock.setblocking(blocking)
    return sock


def take_buffered(reader: io.BufferedReader, sock: socket.socket) -> bytes:
    """Take what a buffered reader holds, and what its socket has right now.

    Servers read a request head through a buffer, and may have read the client's first frames
    with it. For plugins whose server keeps such a reader.

    :param reader: the server's reader of ``sock``.
    :param sock: the server's socket.
    :return: the bytes, which the reader does not hold any more.
    """
    timeout = sock.gettimeout()
    # Not settimeout(0): with it eventlet's TLS socket times out instead of saying "not now".
    sock.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            size = len(reader.peek(1))
            if size:
                return reader.read1(size)
        return b""
    finally:
        sock.settimeout(timeout)
