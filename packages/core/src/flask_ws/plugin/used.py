"""What was used once, in one process."""

from __future__ import annotations

import heapq
import threading
import time

__all__ = ["Used"]


class Used:
    """Keys that were used, each for some time. Any thread may use it."""

    def __init__(self) -> None:
        # A signal's handler may ask while its thread holds it.
        self._lock = threading.RLock()
        self._known: set[str] = set()
        self._ends: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._known)

    def use(self, key: str, seconds: float) -> bool:
        """Take note that a key is used; ``True`` for the first time.

        :param seconds: for how long to remember it.
        """
        now = time.monotonic()
        with self._lock:
            while self._ends and self._ends[0][0] <= now:
                self._known.discard(heapq.heappop(self._ends)[1])
            if key in self._known:
                return False
            self._known.add(key)
            heapq.heappush(self._ends, (now + seconds, key))
            return True
