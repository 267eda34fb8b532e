"""The asyncio loop of a server that has one: async handlers run there, beside its own tasks."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from ..connection.bell import Ringer
from ..connection.dispatcher import Dispatcher
from ..process import after_fork
from .asyncio_loop import AsyncioLoop, LoopThread, label_tasks, log_exception
from .callbacks import find_label

__all__ = ["ServerLoop", "server_loop"]


class ServerLoop(AsyncioLoop):
    """A loop that is the server's: it is not started here, nor ended.

    :param loop: the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_green = self.is_ending = False
        self.loop = loop
        self.home = LoopThread(loop)
        #: What sends for its connections.
        self.dispatcher = Dispatcher(loop)
        #: What wakes their threads.
        self.ringer = Ringer(loop)
        self.callbacks, self.thread = None, 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._forget = self._tasks.discard
        # What the server, or other code on its loop, does with exceptions that nobody awaits.
        self._others = loop.get_exception_handler()
        loop.set_exception_handler(self._log_exception)
        if loop.get_task_factory() is None:
            label_tasks(loop)

    def _log_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if find_label(context.get("task") or context.get("future")):
            log_exception(loop, context)
        elif self._others is not None:
            self._others(loop, context)
        else:
            loop.default_exception_handler(context)

    def start_thread(self) -> None:
        """Do nothing: the server's thread runs it."""

    def start(
        self, function: Callable[[], Coroutine[Any, Any, None]], context: Context, name: str
    ) -> None:
        """Run a coroutine function on the loop, as :meth:`AsyncioLoop.start` does.

        :raises RuntimeError: the loop has ended.
        """
        self.loop.call_soon_threadsafe(self._start, function, context, name, context=context)

    def end(self) -> None:
        """Do nothing: the server ends it."""


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, ServerLoop] = (
    weakref.WeakKeyDictionary()
)
after_fork(_loops.clear)


def server_loop(loop: asyncio.AbstractEventLoop) -> ServerLoop:
    """Return what runs async handlers on a server's loop."""
    found = _loops.get(loop)
    if found is None:
        found = _loops.setdefault(loop, ServerLoop(loop))
    return found
