"""Finding what holds the loop of the async handlers, while it does.

A coroutine that blocks stops all others, and nothing would say so: the messages of thousands of
connections just wait. So a thread has the loop call a function several times a second. When that is
not called in time, the thread logs the line on which the loop is.

Where threads are greenlets, this one is none: a greenlet could not run while another one computes.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
from types import FrameType

from ..concurrency import HomeThread, native_threads, threads
from ..label import Label
from ..native import HAS_THREADS
from ..process import PerProcess
from ..worker import Worker
from . import unlocked_log
from .asyncio_loop import AsyncioLoop
from .callbacks import Hold

__all__ = ["Watchdog", "watchdog_for"]

logger = logging.getLogger("flask_ws")

#: How often the loop is asked: this many times in the time that it may take to answer.
OFTEN = 5


class Watchdog:
    """Watches one loop, on a thread of its own while the loop has work.

    :param loop: the loop.
    :param limit: seconds that a callback may hold it.
    """

    def __init__(self, loop: AsyncioLoop, limit: float) -> None:
        self._loop = loop
        self._limit = limit
        self._period = limit / OFTEN
        self._answered = native_threads.event()
        self._never = native_threads.event()
        # The thread of the loop's greenlet.
        self._home: HomeThread | None = None
        self._worker = Worker(
            "flask_ws.Watchdog", self._ask, self._has_work, concurrency=native_threads
        )

    def start(self) -> None:
        """Watch the loop as long as it has work; called on the loop."""
        if self._loop.is_green:
            if not HAS_THREADS:
                return
            self._home = self._home or threads.home()
        # Where the system has no thread for it, all goes on.
        with contextlib.suppress(RuntimeError):
            self._worker.start()

    def _has_work(self) -> bool:
        # A server may end its loop before its tasks have ended.
        return self._loop.is_busy and not self._loop.loop.is_closed()

    def _ask(self) -> None:
        self._answered.clear()
        try:
            self._loop.loop.call_soon_threadsafe(self._answered.set)
        except RuntimeError:
            # The loop has ended, just now.
            return
        hold = self._wait()
        if hold is None:
            self._never.wait(self._period)
            return
        self._warn(hold)
        del hold
        # Once is enough.
        while self._has_work() and not self._answered.wait(1.0):
            pass

    def _wait(self) -> Hold | None:
        """Wait until the loop answers; or return what has held it for too long."""
        callbacks = self._loop.callbacks
        assert callbacks is not None
        times: dict[FrameType, int] = {}
        # No clock: a process that is stopped, or gets no processor, is not held by its code.
        while not self._answered.wait(self._period):
            found = callbacks.find()
            # Of those that were there before: else many have their turns, one after the other.
            times = {hold.first: times.get(hold.first, 0) + 1 for hold in found}
            for hold in found:
                if times[hold.first] == OFTEN:
                    return hold
        return None

    def _warn(self, hold: Hold) -> None:
        callbacks = self._loop.callbacks
        assert callbacks is not None
        label = callbacks.find_label(hold)
        name = hold.first.f_code.co_name
        if isinstance(label, Label) and label.endpoint.rpartition(".")[2] != name:
            # Such as a callback, or a task that the handler has started.
            name = f"{name} (of {label.endpoint})"
        args = (
            label,
            ": " if label else "",
            name,
            "the loop of the async handlers" if hold.caller else "the server's thread",
            self._limit,
            "all connections on it wait" if hold.caller else "the loop of the async handlers waits",
            _show(hold.first),
            "" if hold.first is hold.last else f", and there at {_show(hold.last)}",
            self._advise(hold),
        )
        if self._home is None:
            logger.warning(MESSAGE, *args)
        else:
            unlocked_log.warn(logger, self._home.post, MESSAGE, args)

    def _advise(self, hold: Hold) -> str:
        if hold.caller is None:
            return BLOCKS_GREENLETS
        advice = "Await what waits; asyncio.to_thread() calls what blocks."
        return f"{advice} {BLOCKS_GREENLETS}" if self._loop.is_green else advice


BLOCKS_GREENLETS = "What computes for long, or blocks all greenlets, belongs on a native thread."
#: What is logged.
MESSAGE = "%s%s%s has held %s for %s s, and %s. It stands at %s%s. %s"

_watchdogs: PerProcess[AsyncioLoop, Watchdog] = PerProcess()


def watchdog_for(loop: AsyncioLoop, limit: float) -> Watchdog:
    """Return this process's watchdog of a loop; the first call says what its limit is."""
    return _watchdogs.get(loop, lambda: Watchdog(loop, limit))


def _show(frame: FrameType) -> str:
    code, number = frame.f_code, frame.f_lineno
    line = linecache.getline(code.co_filename, number, frame.f_globals).strip()
    return f"{code.co_filename}:{number} in {code.co_name}: {line}"
