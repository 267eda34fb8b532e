"""The asyncio loop on which all async handlers of a process run.

It has a thread of its own, as the standard library makes threads: where a process is
monkey-patched, that is a greenlet, and the loop waits on the server's hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import Any

from ..concurrency import Concurrency, HomeThread, threads
from ..native import is_monkey_patched
from ..process import PerProcess, after_fork
from ..worker import Worker
from .callbacks import Callbacks, current_label, find_label
from .monitor import after_goodbye

__all__ = ["AsyncioLoop", "asyncio_loop", "asyncio_primitives"]

logger = logging.getLogger("flask_ws")

NAME = "flask_ws.asyncio"
#: Seconds that tasks have to end when the process does.
FAREWELL = 2.0


class AsyncioPrimitives(Concurrency):
    """Names the loop's thread, for those who tell connections apart by where they can be used."""

    name = "asyncio"


asyncio_primitives = AsyncioPrimitives()


class LoopThread(HomeThread):
    """The thread of a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._awake = False

    def is_here(self) -> bool:
        """Tell whether the caller runs on the loop."""
        return asyncio._get_running_loop() is self._loop

    def wake(self) -> None:
        """Have :meth:`work` called by the loop."""
        if not self._awake:
            self._awake = True
            # A loop that has ended has no connections for which anything is to be done.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.work)

    def work(self) -> None:
        """Call the functions that wait to be called."""
        # Before the first of them: what comes meanwhile may be too late for this call.
        self._awake = False
        super().work()


class AsyncioLoop:
    """A loop, and the thread that runs it.

    :param uvloop: whether to use uvloop, if it is installed.
    """

    def __init__(self, *, uvloop: bool = True) -> None:
        #: Whether its thread is a greenlet.
        self.is_green = is_monkey_patched()
        self.loop = _make_loop(uvloop=uvloop)
        self.loop.set_exception_handler(log_exception)
        label_tasks(self.loop)
        #: The loop's thread.
        self.home = LoopThread(self.loop)
        #: What finds the callback that the loop is in, once it has had one.
        self.callbacks: Callbacks | None = None
        #: The number of the thread that runs nothing but the loop; 0 where there is none.
        self.thread = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # One object for all tasks.
        self._forget = self._tasks.discard
        #: Whether all tasks are being cancelled, because the process ends.
        self.is_ending = False
        self._ended = False
        self._worker = Worker(NAME, self._run, lambda: not self._ended)

    @property
    def is_busy(self) -> bool:
        """Whether there are tasks that :meth:`start` has begun."""
        return bool(self._tasks)

    def start_thread(self) -> None:
        """Have the thread run, which goes on to the end of the process.

        :raises RuntimeError: the system has no thread left for it.
        """
        self._worker.start()

    def start(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str
    ) -> None:
        """Run a coroutine function on the loop; any thread may ask for that.

        :param function: called on the loop.
        :param context: the context that it runs in, which is nobody else's.
        :param name: the name of its task.
        :raises RuntimeError: the loop has ended, or the system has no thread left for it.
        """
        self._worker.start()
        self.loop.call_soon_threadsafe(self._start, function, context, name, context=context)

    def _start(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str
    ) -> None:
        if self.callbacks is None:
            self.callbacks = Callbacks(self.loop, sys._getframe())
            if not self.is_green:
                # A greenlet's thread runs others as well, which are not on the loop.
                self.thread = threading.get_ident()
        # One context for all: each idle connection would keep the copies that are made of it.
        own = {"context": context} if sys.version_info >= (3, 11) else {}
        task = task_class(function(), loop=self.loop, name=name, **own)
        # The loop itself holds on to no task.
        self._tasks.add(task)
        task.add_done_callback(self._forget, context=context)

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            # By a task of the app's. The loop goes on, for the other connections.
            logger.error("%r was raised on the loop of the async handlers; it goes on.", error)
        if self._ended:
            self.loop.close()

    def end(self) -> None:
        """Cancel all tasks, and stop the loop; waits for a moment."""
        ended = threads.event()
        self.is_ending = True

        async def end() -> None:
            try:
                tasks = asyncio.all_tasks() - {asyncio.current_task()}
                for task in tasks:
                    task.cancel()
                if tasks:
                    await asyncio.wait(tasks, timeout=FAREWELL / 2)
                await self.loop.shutdown_asyncgens()
            finally:
                self._ended = True
                self.loop.stop()
                ended.set()

        with contextlib.suppress(RuntimeError):
            self.start(end, Context(), f"{NAME}.end")
            ended.wait(FAREWELL)


class HubSelector(selectors.BaseSelector):
    """A selector for a loop that runs in a greenlet.

    While it waits, other greenlets of the thread are not on the loop: they may run one of their
    own, as Flask does for an async view. That one is the running one again when this one waits.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # The loop of another greenlet, which waits just now.
        self._other: asyncio.AbstractEventLoop | None = None

    def select(self, timeout: float | None = None) -> Any:
        """Wait for sockets, as the hub does."""
        loop, other = asyncio._get_running_loop(), self._other
        # It may have ended, while a handler has called what waits as greenlets do.
        running = other is not None and other.is_running()
        asyncio._set_running_loop(other if running else None)
        try:
            return self._selector.select(timeout)
        finally:
            self._other = asyncio._get_running_loop()
            asyncio._set_running_loop(loop)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a socket."""
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Watch a socket no more."""
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch for something else."""
        return self._selector.modify(fileobj, events, data)

    def close(self) -> None:
        """Let go of all that it watches."""
        self._selector.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what it watches."""
        return self._selector.get_map()


def _make_loop(*, uvloop: bool) -> asyncio.AbstractEventLoop:
    if is_monkey_patched():
        return asyncio.SelectorEventLoop(HubSelector())
    if uvloop:
        with contextlib.suppress(ImportError):
            import uvloop as module

            loop: asyncio.AbstractEventLoop = module.new_event_loop()
            return loop
    # Not the policy's, nor Windows' own: it is to take sockets, and to tell when they are readable.
    return asyncio.SelectorEventLoop()


class Task(asyncio.Task[Any]):
    """A task that can be asked for its connection, before Python can ask for its context."""

    # An attribute without a slot would need a dictionary.
    __slots__ = ("label",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any], **kwargs: Any) -> None:
        super().__init__(coroutine, **kwargs)
        #: The connection's name in logs; empty if it is nobody's.
        context = kwargs.get("context")
        self.label = current_label.get("") if context is None else context.get(current_label, "")


#: What runs on the loop. Python < 3.12 does not tell a task's context.
task_class: type[asyncio.Task[Any]] = asyncio.Task if sys.version_info >= (3, 12) else Task


def label_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let the connection be found that a task of a loop belongs to."""
    if task_class is Task:
        loop.set_task_factory(_make_task)  # type: ignore[arg-type]


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
) -> asyncio.Task[Any]:
    return task_class(coroutine, loop=loop, **kwargs)


def log_exception(_loop: object, context: dict[str, Any]) -> None:
    """Log an exception that nobody awaits, with its connection's name: a loop's handler of them."""
    label = find_label(context.get("task") or context.get("future"))
    logger.error(
        "%s: %s",
        label or "The loop of async handlers",
        context.get("message") or "an unhandled exception",
        exc_info=context.get("exception"),
    )


#: Those of the parent, in a child after a fork: Python would warn of a loop that is let go of.
_parents: list[AsyncioLoop] = []


def _keep_parents() -> None:
    _parents.extend(_loops.values())


# Before those of this process, which then are forgotten.
after_fork(_keep_parents)
_loops: PerProcess[str, AsyncioLoop] = PerProcess()


def asyncio_loop(*, uvloop: bool) -> AsyncioLoop:
    """Return this process's loop; the first call says whether it is uvloop's."""
    made: list[AsyncioLoop] = []

    def make() -> AsyncioLoop:
        made.append(AsyncioLoop(uvloop=uvloop))
        return made[0]

    chosen = _loops.get(NAME, make)
    for loop in made:
        if loop is not chosen:
            # Another thread has made one at the same time. This one's descriptors are closed.
            loop.loop.close()
    return chosen


def _end() -> None:
    for loop in _loops.values():
        loop.end()


after_goodbye(_end)
