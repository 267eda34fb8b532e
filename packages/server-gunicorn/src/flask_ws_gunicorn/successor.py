"""Whether others answer in the place of a worker that stops.

At SIGHUP, Gunicorn starts new workers and stops the old ones in the same moment: until the new ones
have imported the app, nobody accepts connections. A worker that has had its --max-requests is
replaced when it has ended; until then other workers answer, if there are any.
"""

from __future__ import annotations

import _socket
import errno
import threading
import time
from typing import Any

__all__ = ["Successor"]

#: Seconds after which a worker that stops accepts no connections itself: those with greenlets look
#: once a second whether they are to stop.
OWN = 1.5
#: Seconds in which another worker, where there is one, has accepted a connection.
OTHERS = 3.0

#: What connect() says while there is no connection yet; and when there is one.
PENDING = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN, errno.EINTR})
CONNECTED = frozenset({0, errno.EISCONN})


class Successor:
    """Tells whether others accept connections at the address of a worker that stops.

    It connects there and sends nothing but the end of the stream. Until somebody accepts that, it
    waits in the system's queue; who does closes it, without a request or a line in the access log.

    :param worker: Gunicorn's worker of this process.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        # Now: a worker that stops closes its listening sockets.
        listener = worker.sockets[0]
        self._family: int = listener.family
        self._address = listener.getsockname()
        self._sock: _socket.socket | None = None
        self._asked_at: float | None = None
        self._answer: bool | None = None
        # At the end of the process its main thread asks, too.
        self._asking = threading.Lock()

    def __call__(self) -> bool | None:
        """Return whether others do; ``None`` if not yet, ``False`` if not before this worker ends.

        The worker is assumed to stop.
        """
        if self._answer is None and self._asking.acquire(blocking=False):
            try:
                self._answer = self._look(time.monotonic())
                if self._answer is not None and self._sock is not None:
                    self._sock.close()
            finally:
                self._asking.release()
        return self._answer

    def _look(self, now: float) -> bool | None:
        if self._asked_at is None:
            self._asked_at = now
        if now < self._asked_at + OWN:
            return None
        if self._is_accepted():
            return True
        is_recycled = self._worker.nr >= self._worker.max_requests
        return False if is_recycled and now >= self._asked_at + OWN + OTHERS else None

    def _is_accepted(self) -> bool:
        if self._sock is None:
            # At C level: never gevent's or Eventlet's.
            self._sock = _socket.socket(self._family, _socket.SOCK_STREAM)
            self._sock.setblocking(False)
        error = self._sock.connect_ex(self._address)
        if error in PENDING:
            return False
        if error not in CONNECTED:
            # Nobody listens: the whole server stops, and its clients come back elsewhere.
            return True
        try:
            self._sock.shutdown(_socket.SHUT_WR)
            self._sock.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            # A connection that was reset was accepted, too.
            pass
        return True
