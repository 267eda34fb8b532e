"""How fast a client may send: so many messages a second, and some at once."""

from __future__ import annotations

import math
import re
import threading
import time

__all__ = ["Bucket", "parse_rate"]

#: Seconds.
UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*([a-z]+)\s*")


def parse_rate(text: str) -> float | None:
    """Read a rate such as ``"20/s"`` or ``"100/min"``; ``None`` if it is none.

    :return: messages a second.
    """
    match = RATE.fullmatch(text)
    if match is None or match[2] not in UNITS:
        return None
    return float(match[1]) / UNITS[match[2]] or None


class Bucket:
    """A token bucket: each message takes one. Any thread may use it.

    :param rate: tokens that are added each second.
    :param burst: the most that there are; by default those of a second, and at least one.
    """

    __slots__ = ("_burst", "_counted_at", "_left", "_lock", "_rate")

    def __init__(self, rate: float, burst: int | None = None) -> None:
        self._rate = rate
        self._burst = float(max(1, math.ceil(rate)) if burst is None else burst)
        self._left = self._burst
        self._counted_at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Whether all tokens are there: nothing was taken for some time."""
        with self._lock:
            self._add_up()
            return self._left >= self._burst

    def take(self) -> bool:
        """Take a token, if there is one."""
        with self._lock:
            self._add_up()
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def take_anyway(self) -> None:
        """Take a token, even one that is not there yet."""
        with self._lock:
            self._add_up()
            self._left -= 1

    def shortage(self) -> float:
        """Return in how many seconds there will be a token."""
        with self._lock:
            self._add_up()
            return max(0.0, (1 - self._left) / self._rate)

    def _add_up(self) -> None:
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._counted_at) * self._rate)
        self._counted_at = now
