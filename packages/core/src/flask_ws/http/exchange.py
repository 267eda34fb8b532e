"""Giving a server another socket in place of its connection, without its knowledge."""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from ..plugin.sockets import BorrowedSocket
from ..system import WINDOWS

__all__ = ["Exchange", "choose_exchange", "end_in_place"]

logger = logging.getLogger("flask_ws")

#: Methods that a server may call on its TLS socket; those of the dead socket replace them.
SHADOWED = (
    "recv",
    "recv_into",
    "send",
    "sendall",
    "shutdown",
    "close",
    "fileno",
    "settimeout",
    "setblocking",
    "gettimeout",
    "detach",
)


class Exchange:
    """A way to give a server a dead socket, while its socket objects and their numbers stay.

    :param sock: the server's socket.
    """

    __slots__ = ("sock",)

    def __init__(self, sock: Any) -> None:
        #: The socket that has the connection: the server's own, until it is taken.
        self.sock: Any = sock

    def take(self, dead: _socket.socket) -> None:
        """Give the server the dead socket.

        :raises OSError: there is no descriptor left; the server still has its connection.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection that was taken."""
        self.sock.close()

    def take_and_close(self, dead: _socket.socket) -> None:
        """Give the server the dead socket, and close the connection."""
        self.take(dead)
        self.close()


class DescriptorExchange(Exchange):
    """Puts the dead socket under the number of the server's descriptor."""

    __slots__ = ()

    def take(self, dead: _socket.socket) -> None:
        server_sock = self.sock
        # Of the server's own class, native or green; but not borrowed, because we own this one.
        borrowed = isinstance(server_sock, BorrowedSocket)
        make = socket.socket if borrowed else type(server_sock)
        fd = os.dup(server_sock.fileno())
        try:
            taken = make(server_sock.family, server_sock.type, server_sock.proto, fileno=fd)
        except BaseException:
            os.close(fd)
            raise
        self.take_and_close(dead)
        self.sock = taken

    def take_and_close(self, dead: _socket.socket) -> None:
        # In one step: dup2 also closes what had the number.
        os.dup2(dead.fileno(), self.sock.fileno(), inheritable=False)
        dead.close()


class HandleExchange(Exchange):
    """Puts the dead socket into the server's socket object, which files made of it use, too.

    For systems where a socket is not a file descriptor.

    :param sock: the server's socket.
    :param on_new_fileno: tells the server that the socket has another number.
    """

    __slots__ = ("_on_new_fileno",)

    def __init__(self, sock: Any, on_new_fileno: Callable[[], object] | None) -> None:
        super().__init__(sock)
        self._on_new_fileno = on_new_fileno

    def take(self, dead: _socket.socket) -> None:
        native = find_native(self.sock)
        kind = native.family, native.type, native.proto
        timeout = native.gettimeout()
        fd = _socket.socket.detach(native)
        _socket.socket.__init__(native, *kind, fileno=dead.detach())
        native.settimeout(timeout)
        self.sock = _socket.socket(*kind, fileno=fd)
        if self._on_new_fileno is not None:
            try:
                self._on_new_fileno()
            except Exception:
                logger.exception("A plugin's on_new_fileno failed.")


class WrapperExchange(Exchange):
    """Puts the dead socket into a socket of gevent's, which wraps a native one."""

    __slots__ = ()

    def take(self, dead: _socket.socket) -> None:
        server_sock = self.sock
        self.sock = server_sock._sock
        server_sock._sock = dead
        if hasattr(server_sock, "_sslobj"):
            server_sock._sslobj = None

    def close(self) -> None:
        close_native(self.sock)


class TLSExchange(Exchange):
    """Puts the methods of the dead socket over those of the server's TLS socket.

    A TLS object is bound to the number of its descriptor, so that must stay.
    """

    __slots__ = ()

    def take(self, dead: _socket.socket) -> None:
        for name in SHADOWED:
            setattr(self.sock, name, getattr(dead, name))

    def close(self) -> None:
        close_native(self.sock)


def close_native(sock: _socket.socket) -> None:
    """Close a socket at C level.

    A TLS socket's own methods are those of the dead socket, and its class's ``close()`` waits for
    the files that the server has made of it.
    """
    with contextlib.suppress(OSError):
        _socket.socket.shutdown(sock, socket.SHUT_RDWR)
    _socket.socket.close(sock)


def end_in_place(sock: Any) -> None:
    """Shut down both directions, and leave the server its socket: that needs no descriptor."""
    native = find_native(sock)
    with contextlib.suppress(OSError):
        _socket.socket.shutdown(native, socket.SHUT_RDWR)
        _socket.socket.setblocking(native, False)
        # Discard what has arrived: the server must not read it.
        while _socket.socket.recv(native, 2**16):
            pass


def find_native(sock: Any) -> _socket.socket:
    """Find the native socket in one of gevent's or eventlet's, which wrap it."""
    for name in ("_sock", "fd"):
        wrapped = getattr(sock, name, None)
        if isinstance(wrapped, _socket.socket):
            return wrapped
    native: _socket.socket = sock
    return native


def choose_exchange(sock: Any, on_new_fileno: Callable[[], object] | None = None) -> Exchange:
    """Choose the way that suits a server's socket: plain or TLS, native, gevent's or eventlet's.

    :param sock: the server's socket.
    :param on_new_fileno: tells the server that the socket has another number.
    """
    is_tls = getattr(sock, "_sslobj", None) is not None
    if isinstance(getattr(sock, "_sock", None), _socket.socket) and (is_tls or WINDOWS):
        return WrapperExchange(sock)
    if is_tls:
        return TLSExchange(sock)
    return HandleExchange(sock, on_new_fileno) if WINDOWS else DescriptorExchange(sock)
