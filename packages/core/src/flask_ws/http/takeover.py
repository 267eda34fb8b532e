"""Taking the connection from the server, so that it never touches it again.

When flask-ws is done with the server's socket, a dead one takes its place. The server then writes
its own response into the void, reads the end of the stream, logs a 101 and closes, as after any
other response.
"""

from __future__ import annotations

import _socket
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from ..system import is_blocking, socketpair
from .exchange import choose_exchange, end_in_place

__all__ = ["Takeover"]

#: Bytes of the server's own response that are swallowed at once.
DRAINED = 2**13


class Takeover:
    """The change of hands of one connection.

    :param server_sock: the server's socket: plain or TLS, native, gevent's or eventlet's.
    :param on_new_fileno: called when that socket has got another number, which tells its server.
    """

    __slots__ = ("_closed", "_exchange", "_far", "_taken", "sock", "sslobj")

    def __init__(
        self, server_sock: socket.socket, on_new_fileno: Callable[[], object] | None = None
    ) -> None:
        #: The socket to use: the server's own, until :meth:`detach`.
        self.sock = server_sock
        #: The C-level TLS object of a TLS socket.
        self.sslobj: Any = getattr(server_sock, "_sslobj", None)
        self._exchange = choose_exchange(server_sock, on_new_fileno)
        # The far end of the dead socket. It is closed last, and empty: else the server would see
        # a reset instead of an end. There is no __del__ for a server that does not come back to
        # drain it: a Ctrl-C that arrives in one is swallowed.
        self._far: _socket.socket | None = None
        self._closed = False
        # Once only: a server that has registered the dead socket must find the same one again.
        self._taken = False

    def detach(self) -> None:
        """Take the connection from the server now, for use beyond the request.

        :raises OSError: there is no descriptor left; the server has its connection still.
        """
        dead = self._make_dead()
        try:
            self._exchange.take(dead)
        except BaseException:
            dead.close()
            self.drain()
            raise
        self._taken = True
        # The server's objects may go with its request.
        self.sock = self._exchange.sock

    def close(self) -> None:
        """Close the connection, in the eyes of the server too."""
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
        """Swallow what the server wrote after the end; to be called when the server is done."""
        far, self._far = self._far, None
        if far is not None:
            far.setblocking(False)
            swallow(far)
            far.close()

    def finish(self) -> None:
        """End the server's response: what it wrote is swallowed, or will be.

        Middleware around the app may end a response before the server has begun to write it, and
        some servers report an error when nobody is there to write to.
        """
        far, self._far = self._far, None
        if far is not None:
            far.setblocking(False)
            _unwritten.append(far)
        # Those of others, too.
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
        # As the server has set its own, whatever the default timeout of the process.
        dead.setblocking(is_blocking(self._exchange.sock))
        return dead


#: Far ends to which their servers have not written yet.
_unwritten: deque[_socket.socket] = deque()


def swallow(far: _socket.socket) -> bool:
    """Read what is there; ``False`` if that is nothing, and there may be more to come."""
    size = None
    try:
        while size is None or size == DRAINED:
            size = len(far.recv(DRAINED))
    except BlockingIOError:
        return size is not None
    except OSError:
        pass
    return True
