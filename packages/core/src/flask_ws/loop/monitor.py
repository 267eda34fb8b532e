"""The housekeeping of all connections of a process: one thread, or one greenlet.

It finds dead peers, serves connections whose handler is busy elsewhere, and sends close frames when
the server stops.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import heapq
import itertools
import logging
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from ..budget import budget
from ..concurrency import Concurrency, HomeThread
from ..connection.async_connection import AnyConnection
from ..process import PerProcess
from ..worker import Worker
from .blocked import BlockedCode
from .drain import drain
from .goodbyes import Goodbyes
from .keepalive import Watch
from .reactor import running_reactors
from .timers import Timers

__all__ = [
    "Monitor",
    "after_goodbye",
    "count_connections",
    "drain_process",
    "is_draining",
    "monitor_for",
    "notice_stop",
]

logger = logging.getLogger("flask_ws")

T = TypeVar("T")

#: Seconds between two checks of the connections that no thread serves, and of the servers.
TICK = 0.4
#: Seconds between two goodbyes, or fewer, while they are spread over some time.
DRAIN_TICK = 0.1
#: The shortest tick, for options in fractions of a second.
SHORTEST_TICK = 0.02
#: After so many pings or checks for an answer, the monitor pauses for so many seconds: else, with
#: thousands of connections, messages would wait until it has checked them all.
BATCH = 32
PAUSE = 0.001
#: Seconds that a process, at its end, waits for connections without a running handler to close.
FAREWELL = 2.0


class Monitor:
    """Watches over the connections of a process.

    :param concurrency: the primitives of the connections, and of the monitor itself.
    :param home: the thread in which they work, if they do in one only.
    """

    def __init__(self, concurrency: Concurrency, home: HomeThread | None = None) -> None:
        self._lock = concurrency.lock()
        self._wake = concurrency.event()
        self._home = home
        self._worker = Worker(
            "flask_ws.Monitor",
            self._run,
            lambda: len(self) > 0,
            concurrency=concurrency,
            home=home,
        )
        self._watches: dict[AnyConnection, Watch] = {}
        # The number of connections of each server, by what tells whether it stops.
        self._servers: dict[Callable[[], bool], int] = {}
        # How many were admitted and have not been added yet.
        self._admitted = 0
        # Weak references: a connection that has ended is not kept until its next check.
        self._arrived: deque[weakref.ref[Watch]] = deque()
        self._due: list[tuple[float, int, weakref.ref[Watch]]] = []
        self._number = itertools.count()
        self._tick = TICK
        self._blocked = BlockedCode()
        self._goodbyes = Goodbyes(self._watches, self._ask, self._see_to)
        self._timers = Timers()
        # The functions of plugins that have raised.
        self._failed: list[Callable[[], object]] = []

    def __len__(self) -> int:
        return len(self._watches) + self._admitted

    def admit(self, limit: int) -> bool:
        """Reserve a place for a connection; ``False`` if there are ``limit`` already.

        The monitor runs from then on.

        :raises RuntimeError: the system has no thread left for it.
        """
        with self._lock:
            if len(self) >= limit:
                return False
            self._admitted += 1
        try:
            self._worker.start()
        except BaseException:
            self.cancel_admission()
            raise
        return True

    def cancel_admission(self) -> None:
        """Release a place that :meth:`admit` has reserved, and :meth:`add` has not taken."""
        with self._lock:
            self._admitted -= 1
        if not len(self):
            self._wake.set()

    def add(self, watch: Watch, *, admitted: bool = False) -> None:
        """Watch over a connection from now on.

        :param watch: the watch.
        :param admitted: whether :meth:`admit` has counted the connection already.
        :raises RuntimeError: it has not, and the system has no thread left for the monitor.
        """
        with self._lock:
            self._watches[watch.connection] = watch
            self._servers[watch.is_stopping] = self._servers.get(watch.is_stopping, 0) + 1
            self._arrived.append(weakref.ref(watch))
            if admitted:
                # Under the same lock: it is never counted twice.
                self._admitted -= 1
        if not admitted:
            try:
                self._worker.start()
            except BaseException:
                self.remove(watch.connection)
                raise

    def remove(self, connection: AnyConnection) -> None:
        """Stop watching a connection that has ended."""
        with self._lock:
            watch = self._watches.pop(connection, None)
            if watch is not None:
                watch.active = False
                self._servers[watch.is_stopping] -= 1
                if not self._servers[watch.is_stopping]:
                    del self._servers[watch.is_stopping]
        if not len(self):
            self._wake.set()

    def hand_over(self, connection: AnyConnection) -> Watch | None:
        """Return the watch of a connection, whose :meth:`Watch.check` only the caller calls now.

        For tests, in which time passes when they say so.
        """
        watch = self._watches.get(connection)
        if watch is not None:
            watch.active = False
        return watch

    def at(self, when: float, function: Callable[[], object]) -> None:
        """Call a function at a time of :func:`time.monotonic`; it must not wait or raise.

        It is not called if no connection is watched over then.
        """
        self._timers.add(when, function)

    def say_goodbye(self) -> None:
        """Send every connection a close frame, and give the handlers time to end."""
        goodbyes, began = self._goodbyes, time.monotonic()
        goodbyes.plan(list(self._watches.values()), began)
        deadline = began + FAREWELL
        while self._watches:
            # With greenlets, a second signal raises SystemExit in whichever of them is waiting.
            with contextlib.suppress(SystemExit):
                # Set when the last connection has ended.
                self._wake.wait(0.05)
            now = time.monotonic()
            watches = list(self._watches.values())
            # Some may just have come.
            goodbyes.plan(watches, now)
            goodbyes.cancel_late(watches, now)
            for watch in watches:
                if watch.connection.needs_service:
                    self._see_to(watch.connection, watch.connection.service)
            at_work = [watch for watch in watches if watch.connection.at_work]
            if goodbyes.undecided or any(now < began + watch.stop_timeout for watch in at_work):
                deadline = now + FAREWELL
            elif now >= max(deadline, goodbyes.last + FAREWELL) or (
                len(at_work) == len(watches) and not goodbyes.are_planned
            ):
                break

    @property
    def is_leaving(self) -> bool:
        """Whether connections are said goodbye to."""
        return self._goodbyes.are_going_on

    def notice_stop(self) -> None:
        """Ask the servers now whether they stop, rather than at the next tick."""
        if self._home is None:
            self._ask_servers()
        self._wake.set()

    def drain(self) -> None:
        """Begin to say goodbye to all connections, though the server does not stop."""
        self._goodbyes.plan(list(self._watches.values()), time.monotonic())

    def _run(self) -> None:
        while len(self):
            self._wake.wait(
                min(self._tick, DRAIN_TICK) if self._goodbyes.are_planned else self._tick
            )
            self._wake.clear()
            self._look()
        with self._lock:
            if not len(self):
                self._due.clear()
                self._goodbyes.clear()
                self._timers.clear()
                self._arrived.clear()

    def _look(self) -> None:
        now = time.monotonic()
        budget.tell()
        self._welcome(now)
        self._ask_servers()
        lingering = []
        for connection in list(self._watches):
            if connection.needs_service:
                self._see_to(connection, connection.service)
            if connection.work is not None and connection.close_code is not None:
                lingering.append(connection)
        self._look_for_blocked(lingering, now)
        self._check_those_due(now)
        self._timers.call_due(now)
        self._goodbyes.lose_silent(now)

    def _look_for_blocked(self, lingering: list[AnyConnection], now: float) -> None:
        watches = [self._watches.get(connection) for connection in lingering]
        stopping = {
            watch.connection
            for watch in watches
            if watch is not None and watch.goodbye_until is not None
        }
        self._blocked.look_at_handlers(now, lingering, stopping)
        for reactor in running_reactors():
            self._blocked.look_at_reactor(now, reactor)

    def _see_to(self, connection: AnyConnection, function: Callable[[], T]) -> T | None:
        """Call a function for a connection; an exception ends only that connection."""
        try:
            return function()
        except Exception:
            logger.exception("%s: given up, because it could not be watched.", connection.label)
            connection.lose("the connection could not be watched")
            return None

    def _check_those_due(self, now: float) -> None:
        checked = 0
        while self._due and self._due[0][0] <= now:
            _, number, reference = heapq.heappop(self._due)
            due = reference()
            if due is not None and due.active and due.connection.close_code is None:
                again = self._see_to(due.connection, functools.partial(due.check, now))
                if again is not None:
                    heapq.heappush(self._due, (again, number, reference))
                checked += 1
                if checked % BATCH == 0:
                    self._wake.wait(PAUSE)

    def _welcome(self, now: float) -> None:
        while self._arrived:
            reference = self._arrived.popleft()
            watch = reference()
            intervals = [] if watch is None else watch.intervals()
            if watch is None or not intervals:
                continue
            self._tick = max(SHORTEST_TICK, min(self._tick, min(intervals) / 4))
            heapq.heappush(self._due, (now, next(self._number), reference))

    def asks(self, is_stopping: Callable[[], bool]) -> bool:
        """Ask whether a server stops; if it cannot tell, it does not."""
        return self._ask(is_stopping, default=False)

    def _ask(self, question: Callable[[], T], default: bool) -> T | bool:
        try:
            return question()
        except Exception:
            if question not in self._failed:
                # Logged once; the monitor goes on without this server's answer.
                self._failed.append(question)
                logger.exception("A function of a plugin's ServerSocket failed: %r", question)
            return default

    def _ask_servers(self) -> None:
        stopping = {is_stopping for is_stopping in list(self._servers) if self.asks(is_stopping)}
        now = time.monotonic()
        if stopping or drain.begun:
            watches = [
                watch
                for watch in list(self._watches.values())
                if drain.begun or watch.is_stopping in stopping
            ]
            self._goodbyes.plan(watches, now)
            late = [watch for watch in watches if watch.is_stopping in stopping]
            self._goodbyes.cancel_late(late, now)
        self._goodbyes.say_due(now)


_monitors: PerProcess[tuple[str, HomeThread | None], Monitor] = PerProcess()


def monitor_for(concurrency: Concurrency) -> Monitor:
    """Return this process's monitor for connections that use these primitives in this thread."""
    home = concurrency.home()
    return _monitors.get((concurrency.name, home), lambda: Monitor(concurrency, home))


def drain_process() -> None:
    """Begin to say goodbye to all connections of this process, and admit no others."""
    drain.begun = True
    for monitor in _monitors.values():
        monitor.drain()


def notice_stop() -> None:
    """Ask all servers now whether they stop, and have their clients told.

    For a plugin whose server says so: ``is_stopping`` is otherwise asked every 0.4 seconds. Any
    thread may call this, but no signal handler. On the loop of a server that has one, close frames
    are on their way to the server when it returns.
    """
    for monitor in _monitors.values():
        monitor.notice_stop()


def is_draining() -> bool:
    """Tell whether this process says goodbye to its clients."""
    return drain.begun or any(monitor.is_leaving for monitor in _monitors.values())


def count_connections() -> int:
    """Count the connections of this process."""
    return sum(map(len, _monitors.values()))


#: What ends with the process, after the goodbye.
_ends: list[Callable[[], object]] = []


def after_goodbye(function: Callable[[], object]) -> None:
    """Have a function called at the end of the process, when connections were said goodbye to."""
    _ends.append(function)


def _say_goodbye() -> None:
    for monitor in _monitors.values():
        if len(monitor):
            monitor.say_goodbye()
    for end in _ends:
        end()


atexit.register(_say_goodbye)
