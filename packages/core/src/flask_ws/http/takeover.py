"""Taking the connection from the server, so that the server never uses it again.

When flask-ws is done with the server's socket, a dead one takes its place. The server then writes
its own response to the dead socket, where it is discarded, reads the end of the stream, logs a 101
and closes, as after any other response.
"""

from __future__ import annotations

import _socket
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..system import is_blocking, socketpair
from .exchange import choose_exchange, end_in_place

if TYPE_CHECKING:
    from ..plugin.hookspecs import ServerSocket

__all__ = ["NoTakeover", "Takeover", "take_over"]

#: Bytes of the server's own response that are discarded at a time.
DRAINED = 2**13


class Takeover:
    """Takes one connection from its server.

    :param server_sock: the server's socket: plain or TLS, native, gevent's or eventlet's.
    :param on_new_fileno: tells the server that the socket has another number.
    """

    __slots__ = ("_closed", "_exchange", "_far", "_taken", "sock", "sslobj")

    def __init__(
        self, server_sock: socket.socket, on_new_fileno: Callable[[], object] | None = None
    ) -> None:
        #: The socket to use: the server's own, until :meth:`take`.
        self.sock = server_sock
        #: The C-level TLS object of a TLS socket.
        self.sslobj: Any = getattr(server_sock, "_sslobj", None)
        self._exchange = choose_exchange(server_sock, on_new_fileno)
        # The far end of the dead socket. It is drained, and closed last: else the server would see
        # a reset instead of the end of the stream. There is no __del__ to drain it where a server
        # does not: a Ctrl-C that arrives in a __del__ is lost.
        self._far: _socket.socket | None = None
        self._closed = False
        # Once only: a server that has registered the dead socket must find the same one again.
        self._taken = False

    def take(self) -> None:
        """Take the connection from the server now, for use beyond the request.

        :raises OSError: there is no descriptor left; the server still has its connection.
        """
        dead = self._make_dead()
        try:
            self._exchange.take(dead)
        except BaseException:
            dead.close()
            self.drain()
            raise
        self._taken = True
        # The server's objects may be freed when its request ends.
        self.sock = self._exchange.sock

    def close(self) -> None:
        """Close the connection, so that the server sees its end, too."""
        if self._closed:
            return
        self._closed = True
        if self._taken:
            self._exchange.close()
            return
        try:
            dead = self._make_dead()
        except OSError:
            # No descriptor left. The server notices the end only when it writes or reads.
            end_in_place(self.sock)
        else:
            self._exchange.take_and_close(dead)

    def drain(self) -> None:
        """Discard what the server wrote after the end; to be called when it has finished."""
        far, self._far = self._far, None
        if far is not None:
            far.setblocking(False)
            swallow(far)
            far.close()

    def finish(self) -> None:
        """Discard the server's response, now or when it has been written.

        Middleware around the app may end a response before the server has begun to write it, and
        some servers report an error when the far end is closed by then.
        """
        far, self._far = self._far, None
        if far is not None:
            far.setblocking(False)
            _unwritten.append(far)
        # Also those of earlier connections.
        for _ in range(len(_unwritten)):
            with contextlib.suppress(IndexError):
                far = _unwritten.popleft()
                if swallow(far):
                    far.close()
                else:
                    _unwritten.append(far)

    def _make_dead(self) -> _socket.socket:
        dead, self._far = socketpair()
        self._far.shutdown(_socket.SHUT_WR)
        # As the server's socket is set, whatever the default timeout of the process.
        dead.setblocking(is_blocking(self._exchange.sock))
        return dead


class NoTakeover:
    """Takes the place of a takeover where the server frames messages, and keeps its socket."""

    __slots__ = ()

    #: There is no socket.
    sslobj = None

    def take(self) -> None:
        """Do nothing, as all methods here."""

    close = drain = finish = take


def take_over(server_socket: ServerSocket) -> Any:
    """Return what takes a connection from its server: a takeover, or none."""
    if server_socket.messages is not None:
        return NoTakeover()
    return Takeover(server_socket.sock, server_socket.on_new_fileno)


#: Far ends to which their servers have not written yet.
_unwritten: deque[_socket.socket] = deque()


def swallow(far: _socket.socket) -> bool:
    """Read and discard what is there; ``False`` if there was nothing yet."""
    size = None
    try:
        while size is None or size == DRAINED:
            size = len(far.recv(DRAINED))
    except BlockingIOError:
        return size is not None
    except OSError:
        pass
    return True
