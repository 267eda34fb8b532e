"""Pool: the connections on which a process publishes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from flask_ws import BrokerError

from .link import Link

__all__ = ["Pool"]

#: Seconds that a publisher waits for one of the connections, at most.
TURN_SECONDS = 1.0


class Pool:
    """Connections that are made when they are needed, and kept.

    :param connect: makes one.
    :param limit: how many there may be.
    """

    def __init__(self, connect: Callable[[], Link], limit: int) -> None:
        self._connect = connect
        self._turns = threading.Semaphore(limit)
        # The last one that was used is used next.
        self._idle: list[Link] = []
        self._is_closed = False

    @contextlib.contextmanager
    def take(self) -> Iterator[Link]:
        """Take a connection, for a ``with`` statement.

        :raises BrokerError: others use them all.
        :raises OSError: none can be made.
        """
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise BrokerError("All connections to PostgreSQL are in use (max_connections).")
        try:
            link = self._get()
            try:
                yield link
            finally:
                if link.is_open:
                    self._idle.append(link)
        finally:
            self._turns.release()
            if self._is_closed:
                self.close()

    def _get(self) -> Link:
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self._connect()
            # The server may have been restarted since.
            if link.is_usable():
                return link

    def close(self) -> None:
        """Close those that nobody uses; the others are closed by their users."""
        self._is_closed = True
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return
