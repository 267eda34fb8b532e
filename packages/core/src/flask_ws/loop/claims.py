"""Which thread of a reactor serves which socket."""

from __future__ import annotations

import threading

from .pollers import Poller

__all__ = ["Claims"]


class Claims:
    """The sockets that a thread is serving. Any thread may use them.

    A socket that is readable again meanwhile is masked in the poller: else the other threads would
    be told of it over and over.

    :param poller: the poller.
    """

    def __init__(self, poller: Poller) -> None:
        self._lock = threading.Lock()
        self._poller = poller
        self._masked: set[int] = set()
        #: What a thread has claimed it with, by the sockets' descriptors.
        self.claimed: dict[int, object] = {}

    def take(self, fd: int, claim: object) -> None:
        """Claim the socket of a new connection, whoever has claimed its number."""
        with self._lock:
            self.claimed[fd] = claim

    def claim(self, fd: int, claim: object) -> bool:
        """Claim a socket that another thread was serving; ``False`` if it still is."""
        with self._lock:
            masked = fd in self._masked
            # In this order, and in let_go() in the reverse: so one of the two notices the other.
            self._masked.add(fd)
            if self.claimed.setdefault(fd, claim) is not claim:
                if not masked:
                    self._poller.mask(fd)
                return False
            # What another thread has masked, the thread that releases the claim unmasks.
            if not masked:
                self._masked.discard(fd)
            return True

    def withdraw(self, fd: int, claim: object) -> None:
        """Release a claim on a number whose connection has ended; it may be another's by now."""
        with self._lock:
            if self.claimed.get(fd) is claim:
                del self.claimed[fd]
                self._masked.discard(fd)

    def let_go(self, fd: int) -> None:
        """Release a socket: the thread has served it."""
        del self.claimed[fd]
        if self._masked:
            with self._lock:
                if fd in self._masked:
                    self._masked.discard(fd)
                    self._poller.unmask(fd)

    def forget(self, fd: int) -> None:
        """Release a socket whose connection has ended."""
        with self._lock:
            self._masked.discard(fd)
        del self.claimed[fd]
