"""Counting the connections that are subscribed to a channel, in all processes.

The process that wants to know asks on the channel itself, and each that has subscribers answers on
a channel that was made for the answers.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from typing import cast

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.brokers import Broker
from ..protocol.frames import TEXT
from ..worker import Worker
from .listening import Mailbox
from .publication import COUNT, pack
from .settings import RESERVED
from .subscriptions import Subscriptions

__all__ = ["Census"]

NAME = "flask_ws.Census"
#: What the names of the channels begin with that answers come on.
ANSWERS = RESERVED + "answers:"
#: Seconds that other processes have for their answers.
PATIENCE = 1.0


class Census:
    """Asks the other processes, and answers them.

    :param broker: the broker, which there are other processes behind.
    :param prefix: goes before the channels' names there.
    :param origin: identifies this process to the others.
    :param numbers: the numbers of its publications.
    :param subscriptions: who is subscribed here.
    """

    def __init__(
        self,
        broker: Broker,
        prefix: str,
        origin: bytes,
        numbers: Iterator[int],
        subscriptions: Subscriptions,
    ) -> None:
        self._broker = broker
        self._prefix = prefix
        self._origin = origin
        self._numbers = numbers
        self._subscriptions = subscriptions
        self._asked: deque[tuple[str, str]] = deque()
        # On a thread: the broker's own, which delivers questions, must not wait for the network.
        self._worker = Worker(NAME, self._answer_all, lambda: bool(self._asked))

    def count(self, channel: str) -> int:
        """Count the connections; waits for the answers for a second at most.

        :raises BrokerError: the other processes cannot be asked now.
        """
        answers = ANSWERS + os.urandom(8).hex()
        mailbox = Mailbox()
        # A mailbox has the methods of a connection that are called here.
        connection = cast("AnyConnection", mailbox)
        self._subscriptions.add(connection, answers, 1)
        try:
            reached = self._publish(channel, COUNT, answers.encode())
            found = [0] * self._is_asked_itself(channel)
            deadline = time.monotonic() + PATIENCE
            while reached is None or len(found) < reached:
                answer = mailbox.take(max(0.0, deadline - time.monotonic()))
                if answer is None:
                    break
                with contextlib.suppress(ValueError):
                    found.append(int(answer.data))
        finally:
            self._subscriptions.forget(connection)
        return self._count_here(channel) + sum(found)

    def _is_asked_itself(self, channel: str) -> bool:
        """Tell whether a question comes back to this process, which does not answer it."""
        broker, name = self._broker, self._prefix + channel
        is_here = self._subscriptions.get(channel) is not None
        return is_here and broker.brings_back and not broker.is_deaf(name)

    def note(self, channel: str, answers: str) -> None:
        """Have a question answered.

        :param answers: the channel for the answers.
        """
        self._asked.append((channel, answers))
        # Where the system has no thread for it, the next question tries again.
        with contextlib.suppress(RuntimeError):
            self._worker.start()

    def _answer_all(self) -> None:
        while self._asked:
            channel, answers = self._asked.popleft()
            if answers.startswith(ANSWERS):
                with contextlib.suppress(BrokerError):
                    self._publish(answers, TEXT, b"%d" % self._count_here(channel))

    def _count_here(self, channel: str) -> int:
        subscribers = self._subscriptions.get(channel)
        return 0 if subscribers is None else subscribers.count()

    def _publish(self, channel: str, first: int, payload: bytes) -> int | None:
        packed = pack(self._origin, next(self._numbers), first, payload)
        return self._broker.publish(self._prefix + channel, packed)
