"""Notices: telling others what has happened, in order, and with no lock held."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Notices"]


class Notices:
    """Calls functions in the order in which they were left, one at a time.

    What has happened is decided under a lock, and those who hear of it may do anything: write a
    log, publish. So the calls are left here under the lock, and made after it.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        # Nobody ever waits for it: whoever has it makes the calls of the others, too.
        self._calling = threading.Lock()

    def leave(self, function: Callable[[], object]) -> None:
        """Leave a call to be made; calls nothing."""
        self._waiting.append(function)

    def make(self) -> None:
        """Make the calls, unless somebody is at it."""
        while self._waiting and self._calling.acquire(False):
            try:
                while self._waiting:
                    self._waiting.popleft()()
            finally:
                self._calling.release()
