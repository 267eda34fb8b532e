"""Sending many connections what waits for them, so that what follows closely goes along.

Most of what a small message costs is the system call. So a publication to many goes into their
outboxes first, which is cheap, and out of them a moment later, with those that came meanwhile.
"""

from __future__ import annotations

import logging
import os
from collections import deque

from ..concurrency import Concurrency, HomeThread
from ..connection.connection import Connection

__all__ = ["Round", "Spreader", "spreader_for"]

logger = logging.getLogger("flask_ws")

#: Seconds after which a thread with nothing to do ends.
PATIENCE = 0.5
#: Messages that wait for the thread, and their bytes; the publisher of more does its work.
MANY_MESSAGES = 16
MANY_BYTES = 2**16

NAME = "flask_ws.Spreader"


class Round:
    """The connections that get a message each, again and again.

    :param connections: the connections.
    """

    __slots__ = ("connections", "due", "messages", "size")

    def __init__(self, connections: list[Connection]) -> None:
        self.connections = connections
        #: Whether it waits for the spreader to begin.
        self.due = False
        #: How much waits in each outbox, about.
        self.messages = 0
        self.size = 0

    def make(self) -> None:
        """Send each connection what waits for it."""
        self.messages = self.size = 0
        for connection in self.connections:
            try:
                connection.sender.flush()
            except Exception:
                # Others have done nothing to deserve that.
                logger.exception("%s did not take a publication.", connection.label)


class Spreader:
    """Makes the rounds, on a thread of its own while there are any.

    :param concurrency: the primitives of the connections.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self._lock = concurrency.lock()
        self._called = concurrency.event()
        self._running = False
        self._rounds: deque[Round] = deque()

    def add(self, round_: Round, size: int) -> None:
        """Have a round made soon; a message is in the outboxes already.

        :param size: how large it is.
        """
        round_.messages += 1
        round_.size += size
        if round_.messages >= MANY_MESSAGES or round_.size >= MANY_BYTES:
            # The thread does not keep up. It is not to be waited for.
            round_.make()
        elif not round_.due:
            round_.due = True
            self._rounds.append(round_)
            if self._running:
                self._called.set()
            else:
                self._start()

    def _start(self) -> None:
        with self._lock:
            if self._running:
                self._called.set()
                return
            self._called.clear()
            try:
                self._concurrency.spawn(self._run, NAME)
            except RuntimeError:
                # The system has no more threads.
                pass
            else:
                self._running = True
                return
        self._work()

    def _work(self) -> None:
        while True:
            try:
                round_ = self._rounds.popleft()
            except IndexError:
                return
            # Before it is made: what is put into an outbox after this is for the next one.
            round_.due = False
            round_.make()

    def _run(self) -> None:
        while True:
            self._work()
            if not self._called.wait(PATIENCE):
                with self._lock:
                    self._running = False
                    if not self._rounds:
                        return
                    # It came at the last moment.
                    self._running = True
            self._called.clear()


_spreaders: dict[tuple[str, HomeThread | None], Spreader] = {}


def spreader_for(connection: Connection) -> Spreader:
    """Return this process's spreader for connections that use the same primitives."""
    key = connection.concurrency.name, connection.home
    spreader = _spreaders.get(key)
    if spreader is None:
        spreader = _spreaders.setdefault(key, Spreader(connection.concurrency))
    return spreader


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_spreaders.clear)
