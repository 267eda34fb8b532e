"""Taking the connection from the server, so that it never touches it again.

When flask-ws is done with the server's socket, a dead one takes its place under the server's
file descriptor. The server then writes its own response into the void, reads the end of the
stream, logs a 101 and closes, as after any other response.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import socket
from typing import Any

from ..plugin.sockets import BorrowedSocket

__all__ = ["Takeover"]

#: What a server may call on its TLS socket; the dead socket answers in its place.
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

#: Bytes of the server's own response that are swallowed at once.
DRAINED = 2**13


class Takeover:
    """The change of hands of one connection.

    :param server_sock: the server's socket: plain or TLS, native, gevent's or eventlet's.
    """

    __slots__ = ("_closed", "_far", "_server_sock", "_shadowed", "_wrapped", "sock", "sslobj")

    def __init__(self, server_sock: socket.socket) -> None:
        #: The socket to use: the server's own, until :meth:`detach`.
        self.sock = server_sock
        self._server_sock: Any = server_sock
        #: The C-level TLS object of a TLS socket.
        self.sslobj: Any = getattr(server_sock, "_sslobj", None)
        # gevent's sockets wrap a native one, which is to be closed in the end.
        self._wrapped: socket.socket | None = getattr(server_sock, "_sock", None)
        # The far end of the dead socket. It is closed last, and empty: else the server would see
        # a reset instead of an end. There is no __del__ for a server that does not come back to
        # drain it: a Ctrl-C that arrives in one is swallowed.
        self._far: _socket.socket | None = None
        self._closed = False
        # Once only: a server that has registered the dead socket must find the same one again.
        self._shadowed = False

    def detach(self) -> None:
        """Take the connection from the server now, for use beyond the request."""
        if self.sslobj is not None:
            self._shadow()
            return
        sock = self._server_sock
        # Of the server's own kind, native or green; but what is ours is not borrowed.
        make = socket.socket if isinstance(sock, BorrowedSocket) else type(sock)
        self.sock = make(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        self._replace_fd()
        # The server's objects may go with its request.
        self._server_sock = None

    def close(self) -> None:
        """Close the connection, in the eyes of the server too."""
        if self._closed:
            return
        self._closed = True
        if self.sslobj is not None:
            if not self._shadowed:
                self._shadow()
            self._close_tls()
        elif self.sock is self._server_sock:
            # This closes the connection: no other descriptor holds it.
            self._replace_fd()
        else:
            self.sock.close()

    def drain(self) -> None:
        """Swallow what the server wrote after the end; to be called when the server is done."""
        far, self._far = self._far, None
        if far is None:
            return
        far.setblocking(False)
        with contextlib.suppress(OSError):
            while len(far.recv(DRAINED)) == DRAINED:
                pass
        far.close()

    def _make_dead(self) -> _socket.socket:
        # C-level sockets, which no monkey-patching makes green.
        dead, self._far = _socket.socketpair()
        self._far.shutdown(_socket.SHUT_WR)
        if not os.get_blocking(self._server_sock.fileno()):
            dead.setblocking(False)
        return dead

    def _replace_fd(self) -> None:
        dead = self._make_dead()
        os.dup2(dead.fileno(), self._server_sock.fileno(), inheritable=False)
        dead.close()

    def _shadow(self) -> None:
        # A TLS object is bound to the number of its file descriptor, so that must stay.
        self._shadowed = True
        sock: Any = self._server_sock
        dead = self._make_dead()
        if self._wrapped is not None:
            dead.setblocking(False)
            sock._sock, sock._sslobj = dead, None
            return
        for name in SHADOWED:
            setattr(sock, name, getattr(dead, name))

    def _close_tls(self) -> None:
        sock = self._wrapped or self._server_sock
        # At C level: the instance's own methods are those of the dead socket, and the class's
        # close() waits for files that the server has made of it.
        with contextlib.suppress(OSError):
            _socket.socket.shutdown(sock, socket.SHUT_RDWR)
        _socket.socket.close(sock)
