"""Noticing that the server stops, early enough to tell its clients.

Servers tell an application by ``lifespan.shutdown``, which some send only when all connections are
closed: by themselves, with a code that says less than 1001, or with none. The first that a process
hears of it is a signal, or what Hypercorn has for its workers.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from typing import Any

from flask_ws import notice_stop

from .signals import signals

__all__ = ["Stopping"]


class Stopping:
    """Tells whether the server is stopping: ``is_stopping`` of an application's connections.

    :param timeout: seconds that handlers have where the server does not wait for them.
    """

    def __init__(self, timeout: float = 2.0) -> None:
        #: Seconds that handlers have where the server does not wait for them.
        self.timeout = timeout
        #: Whether the server tells of its life, and waits for the application at its end.
        self.has_lifespan = False
        #: How many WebSockets are open, from the handshake to the end of their handler.
        self.open = 0
        #: How many of them are accepted, and without a close frame of ours.
        self.untold = 0
        #: What refuses each handshake that the app has not answered.
        self.unanswered: set[Callable[[], None]] = set()
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

    def refuse_unanswered(self) -> None:
        """Refuse handshakes that the app has not answered: some servers would say 500 to them."""
        for refuse in list(self.unanswered):
            refuse()

    def start_anew(self) -> None:
        """Note that it has started, perhaps after a stop in the same process, as tests do."""
        self._begun = False
        self.has_lifespan = True
        signals.start_anew()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen to what the server listens to; for each handshake, as some begin that late.

        :param loop: the server's loop, which runs the caller.
        """
        if self._has_ended is None:
            self._has_ended = find_event()
        signals.listen(self, loop)


def find_event() -> Callable[[], bool] | None:
    """Return what tells a worker process of Hypercorn's that it is to end: an event, no signal."""
    process: Any = multiprocessing.current_process()
    event = getattr(process, "_kwargs", {}).get("shutdown_event")
    return getattr(event, "is_set", None)
