"""Noticing that the server stops, early enough to tell its clients.

Servers tell an application by ``lifespan.shutdown``, which some send only when all connections are
closed: by themselves, with a code that says less than 1001, or with none. The first that a process
hears of it is a signal, or what Hypercorn has for its workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from flask_ws import notice_stop

__all__ = ["Stopping"]

#: Those by which servers are stopped.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Seconds that clients have to answer the goodbye before the server hears of a signal, and how
#: often it is looked whether they have. Some servers then close all connections at once.
ANSWERING = 0.5
LOOK = 0.02

Handler = Callable[[int, "FrameType | None"], Any]


class Stopping:
    """Tells whether the server is stopping: ``is_stopping`` of an application's connections.

    :param timeout: seconds that handlers have where the server does not wait for them.
    """

    def __init__(self, timeout: float = 2.0) -> None:
        #: Seconds that handlers have where the server does not wait for them.
        self.timeout = timeout
        #: How many WebSockets are open, from the handshake to the end of their handler.
        self.open = 0
        self._begun = False
        self._has_ended: Callable[[], bool] | None = None

    def __call__(self) -> bool:
        """Tell whether the server is stopping."""
        return self._begun or (self._has_ended is not None and self._has_ended())

    def begin(self) -> None:
        """Note that it is, and tell all clients; called on the server's loop."""
        if not self._begun:
            self._begun = True
            notice_stop()

    def start_anew(self) -> None:
        """Note that it has started, perhaps after a stop in the same process, as tests do."""
        self._begun = signals.heard = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to what the server listens to; for each handshake, as some begin that late.

        :param loop: the server's loop, which runs the caller.
        """
        if self._has_ended is None:
            self._has_ended = find_event()
        signals.listen(self, loop)


class Signals:
    """The signals of this process, of which its applications hear before their server does."""

    def __init__(self) -> None:
        #: Whether one has come: the next is for the server alone, which may end at once then.
        self.heard = False
        self._listeners: weakref.WeakSet[Stopping] = weakref.WeakSet()
        self._handlers: dict[signal.Signals, Handler] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def listen(self, stopping: Stopping, loop: asyncio.AbstractEventLoop) -> None:
        """Tell an application of the signals that its server listens to just now."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = loop
        self._listeners.add(stopping)
        for number in SIGNALS:
            served: Any = signal.getsignal(number)
            # Where the server does not listen, the process ends.
            is_served = callable(served) and served is not signal.default_int_handler
            if is_served and served is not self._handlers.get(number):
                self._chain(number, served)

    def _chain(self, number: signal.Signals, served: Handler) -> None:
        # That of a server, or of a loop, which hears of signals by a descriptor as well.
        def handle(received: int, frame: FrameType | None) -> None:
            loop = self._loop
            if self.heard or loop is None or not loop.is_running():
                served(received, frame)
                return
            self.heard = True
            # Nothing that takes a lock, in a signal handler.
            loop.call_soon_threadsafe(self._begin, loop, served, received)

        self._handlers[number] = handle
        signal.signal(number, handle)
        # As asyncio has it: a system call that a signal interrupts goes on.
        with contextlib.suppress(OSError, AttributeError):
            signal.siginterrupt(number, False)

    def _begin(self, loop: asyncio.AbstractEventLoop, served: Handler, received: int) -> None:
        for stopping in list(self._listeners):
            stopping.begin()
        deadline = loop.time() + ANSWERING

        def look() -> None:
            if loop.time() < deadline and any(each.open for each in list(self._listeners)):
                loop.call_later(LOOK, look)
            else:
                served(received, None)

        look()


#: Those of this process.
signals = Signals()


def find_event() -> Callable[[], bool] | None:
    """Return what tells a worker process of Hypercorn's that it is to end: an event, no signal."""
    process: Any = multiprocessing.current_process()
    event = getattr(process, "_kwargs", {}).get("shutdown_event")
    return getattr(event, "is_set", None)
