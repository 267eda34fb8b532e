"""Flushing the outboxes of many connections, so that publications share a system call.

Most of what a small message costs is the system call. So a publication to many is put into their
outboxes first, which is cheap, and sent a moment later, with those that were published meanwhile.
"""

from __future__ import annotations

import logging
from collections import deque

from ..concurrency import Concurrency, HomeThread
from ..connection.async_connection import AnyConnection
from ..process import PerProcess
from ..worker import Worker

__all__ = ["Round", "Spreader", "spreader_for"]

logger = logging.getLogger("flask_ws")

#: Seconds after which a thread with nothing to do ends.
PATIENCE = 0.5
#: The most messages, and bytes, that wait for the thread; the publisher of more flushes itself.
MANY_MESSAGES = 16
MANY_BYTES = 2**16

NAME = "flask_ws.Spreader"


class Round:
    """Connections whose outboxes are flushed together, again and again.

    :param connections: the connections.
    """

    __slots__ = ("connections", "due", "messages", "size")

    def __init__(self, connections: list[AnyConnection]) -> None:
        self.connections = connections
        #: Whether it waits for the spreader.
        self.due = False
        #: Roughly how much waits in each outbox.
        self.messages = 0
        self.size = 0

    def make(self) -> None:
        """Send each connection what waits for it."""
        self.messages = self.size = 0
        for connection in self.connections:
            try:
                connection.sender.flush()
            except Exception:
                # A failure of one connection must not affect the others.
                logger.exception("%s: a publication could not be delivered.", connection.label)


class Spreader:
    """Flushes the rounds, on a thread of its own while there are any.

    :param concurrency: the primitives of the connections.
    :param home: the one thread in which they work, if any.
    """

    def __init__(self, concurrency: Concurrency, home: HomeThread | None = None) -> None:
        self._called = concurrency.event()
        self._rounds: deque[Round] = deque()
        self._worker = Worker(
            NAME, self._run, lambda: bool(self._rounds), concurrency=concurrency, home=home
        )

    def add(self, round_: Round, size: int) -> None:
        """Have a round flushed soon; a message is in the outboxes already.

        :param size: the size of the message.
        """
        round_.messages += 1
        round_.size += size
        if round_.messages >= MANY_MESSAGES or round_.size >= MANY_BYTES:
            # The thread does not keep up: do its work here.
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
            # Before the flush: what is put into an outbox after this is for the next one.
            round_.due = False
            round_.make()

    def _run(self) -> None:
        while self._called.wait(PATIENCE):
            self._called.clear()
            self._work()


_spreaders: PerProcess[tuple[str, HomeThread | None], Spreader] = PerProcess()


def spreader_for(connection: AnyConnection) -> Spreader:
    """Return this process's spreader for connections that use the same primitives."""
    concurrency, home = connection.concurrency, connection.home
    return _spreaders.get((concurrency.name, home), lambda: Spreader(concurrency, home))
