"""The signals of a process: its applications hear of them before the server does.

A server listens by a handler of its own, or has its loop listen. A loop hears of a signal by a
descriptor, to which the system's handler writes the signal's number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any
from typing import Protocol as Interface

__all__ = ["SIGNALS", "Signals", "signals"]

#: Those by which servers are stopped.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Seconds that clients have to answer the goodbye before the server hears of a signal; as many
#: again after each that is told or has answered, up to the most; and how often that is looked at.
#: Some servers then close all connections at once.
ANSWERING = 0.5
MOST = 5.0
LOOK = 0.02

Handler = Callable[[int, "FrameType | None"], Any]


class Listener(Interface):
    """What signals are told of an application, and tell it."""

    #: Seconds that handlers have where the server does not wait for them.
    timeout: float
    #: Whether the server waits for the application at its end.
    has_lifespan: bool
    #: How many WebSockets are open, and how many of their clients are to be told.
    open: int
    untold: int

    def begin(self) -> None:
        """Note that the server stops, and tell all clients."""

    def refuse_unanswered(self) -> None:
        """Refuse handshakes that the app has not answered."""


class Signals:
    """The signals of this process, of which its applications hear before their server does."""

    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self._handlers: dict[signal.Signals, Handler] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeup = Wakeup()
        # Those that have come; and those that the server has not heard of, with its handlers.
        self._heard: set[int] = set()
        self._waiting: list[tuple[Handler, int]] = []
        self._passes_all = False

    def start_anew(self) -> None:
        """Forget what has come: the server has started."""
        self._heard.clear()
        self._passes_all = False

    def listen(self, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        """Tell an application of the signals that its server listens to just now."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = loop
        self._listeners.add(listener)
        for number in SIGNALS:
            served: Any = signal.getsignal(number)
            # Where the server does not listen, the process ends.
            is_served = callable(served) and served is not signal.default_int_handler
            if is_served and served is not self._handlers.get(number):
                self._chain(number, served)
        self._wakeup.watch(loop)

    def _chain(self, number: signal.Signals, served: Handler) -> None:
        def handle(received: int, frame: FrameType | None) -> None:
            loop = self._loop
            is_repeated = received in self._heard
            if self._passes_all or is_repeated or loop is None or not loop.is_running():
                # The second of a kind is for the server at once: it may end without a grace.
                self._pass_on()
                served(received, frame)
                return
            # Ctrl-C is followed by a signal of the parent process to its workers.
            self._heard.add(received)
            self._waiting.append((served, received))
            if len(self._waiting) == 1:
                self._wakeup.hold()
                # Nothing that takes a lock, in a signal handler.
                loop.call_soon_threadsafe(self._begin, loop)

        self._handlers[number] = handle
        signal.signal(number, handle)
        # As asyncio has it: a system call that a signal interrupts goes on.
        with contextlib.suppress(OSError, AttributeError):
            signal.siginterrupt(number, False)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        for listener in list(self._listeners):
            listener.begin()
        now = time.monotonic()
        alone = [each for each in list(self._listeners) if each.open and not each.has_lifespan]
        # Nobody else gives handlers of these their time, on some servers.
        first = now + max((each.timeout for each in alone), default=0.0)
        self._look(loop, self._count_steps(), max(first, now + ANSWERING), max(first, now + MOST))

    def _look(
        self, loop: asyncio.AbstractEventLoop, before: int, deadline: float, latest: float
    ) -> None:
        now, steps = time.monotonic(), self._count_steps()
        if steps < before:
            deadline = max(deadline, min(now + ANSWERING, latest))
        if not steps:
            self._pass_on()
        elif now < deadline:
            loop.call_later(LOOK, self._look, loop, steps, deadline, latest)
        else:
            for listener in list(self._listeners):
                listener.refuse_unanswered()
            # These have to be sent before.
            loop.call_later(LOOK, self._pass_on)

    def _count_steps(self) -> int:
        """Count the goodbyes and the ends that are to come."""
        return sum(each.untold + each.open for each in list(self._listeners))

    def _pass_on(self) -> None:
        if self._waiting:
            self._passes_all = True
        waiting, self._waiting = self._waiting, []
        for served, number in waiting:
            served(number, None)
        self._wakeup.release()


class Wakeup:
    """A descriptor in the place of that by which the loop hears of signals."""

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # The loop's own. A duplicate: the number may be another file's, once the loop is closed.
        self._served = -1
        self._is_held = False
        self._kept = b""

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the place of the loop's, if the loop has one; called in the main thread."""
        if sys.platform == "win32":
            # Loops hear of no signals there.
            return
        if self._pair is None:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
        ours = self._pair[1].fileno()
        served = signal.set_wakeup_fd(ours)
        if served == -1:
            signal.set_wakeup_fd(-1)
            return
        if served != ours:
            if self._served != -1:
                os.close(self._served)
            self._served = os.dup(served)
        if loop is not self._loop:
            self._loop = loop
            loop.add_reader(self._pair[0], self._pass_on)

    def hold(self) -> None:
        """Keep what comes from the loop, until it is released."""
        self._is_held = True

    def release(self) -> None:
        """Have the loop hear of all that has come."""
        self._is_held = False
        self._pass_on()

    def _pass_on(self) -> None:
        self._sort(self._take())

    def _take(self) -> bytes:
        with contextlib.suppress(OSError):
            if self._pair is not None:
                return self._pair[0].recv(4096)
        return b""

    def _sort(self, numbers: bytes) -> None:
        # Python has called the handlers of what was taken: it does so before it calls a function.
        if self._is_held:
            kept = bytes(number for number in numbers if number in SIGNALS)
            numbers = bytes(number for number in numbers if number not in SIGNALS)
            self._kept += kept
        else:
            numbers, self._kept = self._kept + numbers, b""
        if numbers:
            with contextlib.suppress(OSError):
                os.write(self._served, numbers)


#: Those of this process.
signals = Signals()
