"""Functions that the monitor calls at a time."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable

__all__ = ["Timers"]

logger = logging.getLogger("flask_ws")


class Timers:
    """Functions, each with the time when it is due. Any thread may add one; one thread calls."""

    def __init__(self) -> None:
        self._added: deque[tuple[float, Callable[[], object]]] = deque()
        self._sorted: list[tuple[float, int, Callable[[], object]]] = []
        self._number = itertools.count()

    def add(self, when: float, function: Callable[[], object]) -> None:
        """Have a function called at a time of :func:`time.monotonic`."""
        self._added.append((when, function))

    def call_due(self, now: float) -> None:
        """Call those that are due; what one raises is logged."""
        while self._added:
            when, function = self._added.popleft()
            heapq.heappush(self._sorted, (when, next(self._number), function))
        while self._sorted and self._sorted[0][0] <= now:
            _, _, function = heapq.heappop(self._sorted)
            try:
                function()
            except Exception:
                logger.exception("A scheduled call failed.")

    def clear(self) -> None:
        """Forget them all."""
        self._added.clear()
        self._sorted.clear()
