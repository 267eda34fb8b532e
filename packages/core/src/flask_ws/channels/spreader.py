"""Sending many connections what waits for them, so that what follows closely goes along.

Most of what a small message costs is the system call. So a publication to many goes into their
outboxes first, which is cheap, and out of them a moment later, with those that came meanwhile.
"""

from __future__ import annotations

import logging
from collections import deque

from ..concurrency import Concurrency, HomeThread
from ..connection.connection import Connection
from ..process import PerProcess
from ..worker import Worker

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
    :param home: the thread in which they work, if they do in one only.
    """

    def __init__(self, concurrency: Concurrency, home: HomeThread | None = None) -> None:
        self._called = concurrency.event()
        self._rounds: deque[Round] = deque()
        self._worker = Worker(
            NAME, self._run, lambda: bool(self._rounds), concurrency=concurrency, home=home
        )

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
            self._called.set()
            try:
                self._worker.start()
            except RuntimeError:
                # The system has no more threads.
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
        while self._called.wait(PATIENCE):
            self._called.clear()
            self._work()


_spreaders: PerProcess[tuple[str, HomeThread | None], Spreader] = PerProcess()


def spreader_for(connection: Connection) -> Spreader:
    """Return this process's spreader for connections that use the same primitives."""
    concurrency, home = connection.concurrency, connection.home
    return _spreaders.get((concurrency.name, home), lambda: Spreader(concurrency, home))
