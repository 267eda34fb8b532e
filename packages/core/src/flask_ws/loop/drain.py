"""When a process that stops closes its connections: all at once, or one after the other.

Clients that lose their connection come back at once. Where thousands do so in the same second, they
overload the processes that take over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import Protocol, TypeVar

from ..process import after_fork

__all__ = ["HandshakeRate", "drain", "handshake_rate"]

#: Seconds of the time that a server waits for handlers which are left for the last of them.
REST = 2.0
#: The part of the time that is left to processes which take over, where the server cannot tell when
#: they answer. Clients that came before that would wait for them, and then come all at once.
START = 1 / 10
#: The part of the time that a server has to stop in which they are waited for at most.
PATIENCE = 1 / 2


class Leaving(Protocol):
    """What is known of a connection that is to end."""

    stop_timeout: float
    leaving_since: float

    def idle_since(self, now: float) -> float:
        """Return since when nothing has come."""


L = TypeVar("L", bound=Leaving)


class Drain:
    """When the connections of a process are told goodbye: sent a close frame with 1001."""

    def __init__(self) -> None:
        #: Seconds that they are spread over; 0 says all of them at once.
        self.seconds = 0.0
        #: Whether the app has begun it, while the server does not stop.
        self.begun = False

    def plan(
        self, watches: list[L], now: float, answers: Collection[bool | None] = ()
    ) -> list[tuple[float, L]]:
        """Set when each connection is told goodbye: evenly spread, longest idle first.

        They come back as evenly as they are told, because each waits about as long.

        :param watches: those that have not been told when.
        :param now: the time, of :func:`time.monotonic`.
        :param answers: what their servers say of who takes over (``ServerSocket.has_successor``).
        :return: nothing, while it is to be waited for who takes over.
        """
        if not watches or not self.seconds:
            return [(now, watch) for watch in watches]
        waited = now - min(watch.leaving_since for watch in watches)
        limit = min(map(self._limit, watches))
        if None in answers and waited < limit * PATIENCE:
            return []
        seconds = max(0.0, min(self.seconds, limit - waited))
        if answers and not any(answers) and None not in answers:
            # Whenever they are told, they are served again only when this process has ended.
            seconds = 0.0
        watches = sorted(watches, key=lambda watch: watch.idle_since(now))
        first = now if answers else now + seconds * START
        share = (now + seconds - first) / len(watches)
        return [(first + number * share, watch) for number, watch in enumerate(watches)]

    def _limit(self, watch: Leaving) -> float:
        # A server that says how long it waits ends the process then. The shortest time is what
        # plugins have that say nothing: their servers wait.
        if self.begun or watch.stop_timeout <= REST:
            return 2 * self.seconds
        return watch.stop_timeout - REST

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
