"""Asking now and then whether connections may stay.

The app's own function is asked, which may wait for a database. So it is called on one thread for
all connections of a process, and neither the housekeeping nor any handler waits for it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from random import SystemRandom

from ..concurrency import Concurrency, HomeThread
from ..connection.async_connection import AnyConnection
from ..process import PerProcess
from ..sparing import warn_sparingly
from ..wording import counted
from ..worker import Worker
from .identities import DISMISSED

__all__ = ["ENDED", "Recheck", "Rechecks", "rechecks_for"]

logger = logging.getLogger("flask_ws")

NAME = "flask_ws.Recheck"
ENDED = "the login has ended"
#: Not the app's generator, which it may have seeded.
chance = SystemRandom()
#: The first is asked within so many seconds: a login may have ended during the handshake.
SOON = 2.0
#: The part of the period by which they differ, so that they are not asked all at once.
SPREAD = 0.2
#: A thread that is later than this, and than one period, is said to be late.
LATE = 10.0
#: Seconds after which the thread looks whether the connections are still there.
LOOK = 60.0


class Recheck:
    """What is asked about one connection. The connection's own ``ws`` keeps it alive.

    :param connection: the connection.
    :param ask: tells whether it may stay.
    :param seconds: from one time to the next.
    """

    __slots__ = ("__weakref__", "_ask", "connection", "seconds")

    def __init__(self, connection: AnyConnection, ask: Callable[[], bool], seconds: float) -> None:
        self.connection = connection
        self.seconds = seconds
        self._ask = ask

    def look(self) -> bool:
        """Ask, and end the connection if it may not stay; whether to ask again."""
        connection = self.connection
        if not connection.connected:
            return False
        if self._ask():
            return True
        connection.dismiss(DISMISSED, ENDED)
        return False


class Rechecks:
    """Asks about the connections of a process, one after the other.

    :param concurrency: the primitives of the server.
    :param home: the thread in which they work, if they do in one only.
    """

    def __init__(self, concurrency: Concurrency, home: HomeThread | None = None) -> None:
        self._concurrency = concurrency
        self._wake = concurrency.event()
        self._arrived: deque[tuple[float, weakref.ref[Recheck]]] = deque()
        self._due: list[tuple[float, int, weakref.ref[Recheck]]] = []
        self._number = itertools.count()
        self._worker = Worker(NAME, self._run, self._has_work, concurrency=concurrency, home=home)

    def add(self, recheck: Recheck) -> None:
        """Ask about a connection from now on, until it ends.

        :raises RuntimeError: the system has no thread left for that.
        """
        first = chance.uniform(0, min(SOON, recheck.seconds))
        self._arrived.append((time.monotonic() + first, weakref.ref(recheck)))
        self._wake.set()
        self._worker.start()

    def _has_work(self) -> bool:
        return bool(self._arrived or self._due)

    def _run(self) -> None:
        self._wake.clear()
        while self._arrived:
            when, reference = self._arrived.popleft()
            heapq.heappush(self._due, (when, next(self._number), reference))
        if not self._due:
            return
        left = self._due[0][0] - time.monotonic()
        if left > 0:
            self._wake.wait(min(left, LOOK))
            return
        due, _, reference = heapq.heappop(self._due)
        recheck = reference()
        if recheck is None:
            return
        if -left > LATE and -left > recheck.seconds:
            warn_sparingly(
                NAME,
                "What Sock.recheck() asks takes too long: with %s to ask about, it is %.0f s late.",
                counted(len(self._due) + 1, "connection"),
                -left,
            )
        if self._look(recheck):
            seconds = recheck.seconds * chance.uniform(1 - SPREAD, 1)
            again = max(due, time.monotonic() - recheck.seconds) + seconds
            heapq.heappush(self._due, (again, next(self._number), reference))
        # Greenlets are not preempted.
        self._concurrency.pause()

    def _look(self, recheck: Recheck) -> bool:
        try:
            return recheck.look()
        except Exception:
            # It is asked again, and the others are asked, too.
            logger.exception("%s: nobody knows whether it may stay.", recheck.connection.label)
            return True


_rechecks: PerProcess[tuple[str, HomeThread | None], Rechecks] = PerProcess()


def rechecks_for(concurrency: Concurrency) -> Rechecks:
    """Return what asks about connections of this process that use these primitives here."""
    home = concurrency.home()
    return _rechecks.get((concurrency.name, home), lambda: Rechecks(concurrency, home))
