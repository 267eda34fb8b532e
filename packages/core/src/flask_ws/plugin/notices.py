"""Notices: telling others what has happened, in order, and with no lock held."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Notices"]


class Notices:
    """Calls functions in the order in which they were queued, one at a time.

    What has happened is decided under a lock, and the functions may do anything: log, publish. So
    the calls are queued here under the lock, and made after its release.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        # Nobody waits for it: the thread that holds it also makes the calls of others.
        self._calling = threading.Lock()

    def leave(self, function: Callable[[], object]) -> None:
        """Queue a call; calls nothing."""
        self._waiting.append(function)

    def make(self) -> None:
        """Make the calls, unless another thread is making them."""
        while self._waiting and self._calling.acquire(False):
            try:
                while self._waiting:
                    self._waiting.popleft()()
            finally:
                self._calling.release()
