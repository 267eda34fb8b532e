"""How a process that stops says goodbye: to all clients at once, or to one after the other.

Clients that lose their connection come back at once. Where thousands do so in the same second, they
are a storm for the processes that take over.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol, TypeVar

from ..process import after_fork

__all__ = ["HandshakeRate", "drain", "handshake_rate"]

#: Seconds of the time that a server waits for handlers which are left for the last of them.
REST = 2.0
#: The part of the time that processes which take over have to start before the first goodbye. Else
#: the clients told meanwhile would wait for them, and come all at once.
START = 1 / 10


class Leaving(Protocol):
    """What is known of a connection that is to end."""

    stop_timeout: float

    def idle_since(self, now: float) -> float:
        """Return since when nothing has come."""


L = TypeVar("L", bound=Leaving)


class Drain:
    """The goodbyes of a process."""

    def __init__(self) -> None:
        #: Seconds that they are spread over; 0 says all of them at once.
        self.seconds = 0.0
        #: Whether the app has begun it, while the server does not stop.
        self.begun = False

    def plan(self, watches: list[L], now: float) -> list[tuple[float, L]]:
        """Set when each connection is told goodbye: evenly spread, longest idle first.

        They come back as evenly as they are told, because each waits about as long.

        :param watches: those that have not been told when.
        :param now: the time, of :func:`time.monotonic`.
        """
        seconds = min((self._limit(watch) for watch in watches), default=0.0)
        if seconds:
            watches = sorted(watches, key=lambda watch: watch.idle_since(now))
        first = now + seconds * START
        share = seconds * (1 - START) / max(1, len(watches))
        return [(first + number * share, watch) for number, watch in enumerate(watches)]

    def _limit(self, watch: Leaving) -> float:
        # A server that says how long it waits ends the process then. The shortest time is what
        # plugins have that say nothing: their servers wait.
        if self.begun or watch.stop_timeout <= REST:
            return self.seconds
        return min(self.seconds, watch.stop_timeout - REST)

    def start_anew(self) -> None:
        """Begin anew in a forked child, which serves connections of its own."""
        self.begun = False


class HandshakeRate:
    """How many handshakes a process admits in a second, and at most at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0.0
        self._counted_at = float("-inf")

    def admit(self, rate: float | None) -> bool:
        """Admit a handshake, or not.

        :param rate: handshakes a second; ``None`` for no limit.
        """
        if rate is None:
            return True
        now = time.monotonic()
        with self._lock:
            self._left = min(max(1.0, rate), self._left + (now - self._counted_at) * rate)
            self._counted_at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


#: Those of this process.
drain = Drain()
handshake_rate = HandshakeRate()

after_fork(drain.start_anew)
