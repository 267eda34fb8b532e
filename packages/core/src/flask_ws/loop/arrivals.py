"""Waiting for messages of connections that have no descriptor: their loop reports what has come."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue

from ..process import after_fork

__all__ = ["Arrivals", "arrivals"]


class Arrivals:
    """A poller for connections of messages, by numbers of their own.

    As with any poller, what is reported is served; what came meanwhile is reported again.
    """

    #: The end of a connection is told like a message.
    sees_aborts = True

    def __init__(self) -> None:
        self._arrived: SimpleQueue[int] = SimpleQueue()
        # What is in there, what may be, and what another thread serves just now.
        self._told: set[int] = set()
        self._registered: set[int] = set()
        self._masked: set[int] = set()

    def tell(self, number: int) -> None:
        """Tell that a message has come, or the end; never waits, and any thread may call it."""
        if number in self._registered and number not in self._told and number not in self._masked:
            self._told.add(number)
            self._arrived.put(number)

    def register(self, fd: int) -> None:
        """Report it from now on; at once, for what came before."""
        self._registered.add(fd)
        self.tell(fd)

    def unregister(self, fd: int) -> None:
        """Do not report it any more."""
        self._registered.discard(fd)
        self._masked.discard(fd)
        self._told.discard(fd)

    def mask(self, fd: int) -> None:
        """Do not report it for now: another thread serves it."""
        self._masked.add(fd)

    def unmask(self, fd: int) -> None:
        """Report it again: something may have come meanwhile."""
        self._masked.discard(fd)
        self.tell(fd)

    def wait(self, timeout: float) -> list[int]:
        """Return those for which something has come; none after ``timeout`` seconds."""
        arrived = self._arrived
        found = []
        # Another thread may take the rest meanwhile.
        with contextlib.suppress(Empty):
            found.append(arrived.get(block=timeout > 0, timeout=timeout or None))
            while not arrived.empty():
                found.append(arrived.get_nowait())
        # Before they are served: what comes from now on is told again.
        self._told.difference_update(found)
        registered, masked = self._registered, self._masked
        return [number for number in found if number in registered and number not in masked]


#: Those of this process.
arrivals = Arrivals()

after_fork(arrivals.__init__)  # type: ignore[misc]
