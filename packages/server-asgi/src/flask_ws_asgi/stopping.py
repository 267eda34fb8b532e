"""Noticing that the server stops, early enough to tell its clients.

Servers tell an application by ``lifespan.shutdown``, which some send only when all connections are
closed: by themselves, with a code that says less than 1001. The first that a process hears of it is
a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from types import FrameType
from typing import Any

from flask_ws import notice_stop

__all__ = ["Stopping"]

#: Those by which servers are stopped.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Tells whether the server is stopping: ``is_stopping`` of all its connections."""

    def __init__(self) -> None:
        self._begun = False
        self._watches = False

    def __call__(self) -> bool:
        """Tell whether the server is stopping."""
        return self._begun

    def begin(self) -> None:
        """Note that it is."""
        if not self._begun:
            self._begun = True
            notice_stop()

    def start_anew(self) -> None:
        """Note that it has started, perhaps after a stop in the same process, as tests do."""
        self._begun = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to the signals that the server listens to; only the first call does so.

        :param loop: the server's loop, which runs the caller.
        """
        if self._watches or threading.current_thread() is not threading.main_thread():
            return
        self._watches = True
        for number in SIGNALS:
            self._chain(number, loop)

    def _chain(self, number: signal.Signals, loop: asyncio.AbstractEventLoop) -> None:
        # That of a server, or of the loop itself, which hears of signals by a descriptor as well.
        served: Any = signal.getsignal(number)
        if not callable(served) or served is signal.default_int_handler:
            # The server does not listen to it, and the process ends.
            return

        def handle(received: int, frame: FrameType | None) -> None:
            # Nothing that takes a lock, in a signal handler. The loop may have ended.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.begin)
            served(received, frame)

        signal.signal(number, handle)
        # As asyncio has it: a system call that a signal interrupts goes on.
        with contextlib.suppress(OSError, AttributeError):
            signal.siginterrupt(number, False)
