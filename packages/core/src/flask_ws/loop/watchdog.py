"""Finding what holds the loop of the async handlers, while it does.

A coroutine that blocks stops all others, and nothing would say so: the messages of thousands of
connections just wait. So a thread has the loop call a function several times a second. When that is
not called in time, the thread logs the line on which the loop is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import traceback
import types

from ..concurrency import threads
from ..process import PerProcess
from ..worker import Worker
from .asyncio_loop import AsyncioLoop, find_label

__all__ = ["Watchdog", "watchdog_for"]

logger = logging.getLogger("flask_ws")

#: How often the loop is asked: this many times in the time that it may take to answer.
OFTEN = 5
#: Where callbacks come from; what they call next is the app's.
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MACHINERY = (
    os.path.dirname(asyncio.__file__),
    *(os.path.join(HERE, room) for room in ("loop", "http", "views", "connection", "worker.py")),
)
#: Files of the standard library that a thread begins with.
BEGINNINGS = ("threading.py", "selectors.py")


class Watchdog:
    """Watches one loop, on a thread of its own while the loop has work.

    :param loop: the loop.
    :param limit: seconds that a callback may hold it.
    """

    def __init__(self, loop: AsyncioLoop, limit: float) -> None:
        self._loop = loop
        self._limit = limit
        self._answered = threads.event()
        self._never = threads.event()
        self._worker = Worker("flask_ws.Watchdog", self._ask, lambda: loop.is_busy)

    def start(self) -> None:
        """Watch the loop as long as it has work; where it is a greenlet, nobody could."""
        if not self._loop.is_green:
            # Where the system has no thread for it, all goes on.
            with contextlib.suppress(RuntimeError):
                self._worker.start()

    def _ask(self) -> None:
        self._answered.clear()
        self._loop.home.run(self._answered.set)
        found: types.FrameType | None = None
        times = 0
        while not self._answered.wait(self._limit / OFTEN):
            # Else many have their turns, one after the other.
            before, found = found, self._find_frame()
            times = times + 1 if found is before else 1
            if times == OFTEN:
                break
        else:
            self._never.wait(self._limit / OFTEN)
            return
        before = found = None
        self._warn()
        # Once is enough.
        while self._loop.is_busy and not self._answered.wait(1.0):
            pass

    def _find_frame(self) -> types.FrameType | None:
        """Find the app's own function, which the machinery has called."""
        frame, found = sys._current_frames().get(self._loop.ident), None
        while frame is not None:
            if not _is_machinery(frame.f_code.co_filename):
                found = frame
            frame = frame.f_back
        return found

    def _warn(self) -> None:
        frame = sys._current_frames().get(self._loop.ident)
        if frame is None:
            return
        # From the app's own function on, which the machinery has called.
        stack = [
            entry for entry in traceback.extract_stack(frame) if not _is_machinery(entry.filename)
        ]
        if not stack:
            # The machine is busy, and the loop waits for its turn.
            return
        first, last = stack[0], stack[-1]
        deeper = "" if first is last else f", and there at {_show(last)}"
        label = find_label(asyncio.current_task(self._loop.loop))
        logger.warning(
            "%s%s has held the loop of the async handlers for %s s, and all connections on it "
            "wait. It stands at %s%s. Await what waits; asyncio.to_thread() calls what blocks.",
            f"{label}: " if label else "",
            first.name,
            self._limit,
            _show(first),
            deeper,
        )


_watchdogs: PerProcess[AsyncioLoop, Watchdog] = PerProcess()


def watchdog_for(loop: AsyncioLoop, limit: float) -> Watchdog:
    """Return this process's watchdog of a loop; the first call says what its limit is."""
    return _watchdogs.get(loop, lambda: Watchdog(loop, limit))


def _is_machinery(filename: str) -> bool:
    return filename.startswith(MACHINERY) or filename.endswith(BEGINNINGS)


def _show(entry: traceback.FrameSummary) -> str:
    return f"{entry.filename}:{entry.lineno} in {entry.name}: {entry.line}"
