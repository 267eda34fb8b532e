"""Emptying a server's buffered reader without waiting for more."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl

__all__ = ["take_buffered"]


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
