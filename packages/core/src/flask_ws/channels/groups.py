"""Sending a message to connections that can be used from the same thread."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection
from typing import Any

from ..connection.async_connection import AnyConnection, AsyncConnection
from ..protocol.control import read_control
from ..protocol.events import Close
from ..protocol.frames import CLOSE
from ..protocol.shared import SharedMessage
from .spreader import Round, spreader_for

__all__ = ["Group", "send_alone"]

logger = logging.getLogger("flask_ws")

#: Up to this many subscribers are sent a publication at once, and not by the spreader.
FEW = 16


class Afterwards:
    """Calls to make when a message has been sent in a home thread, and the turn is over.

    The home thread may send it at once, or later.
    """

    __slots__ = ("_calls", "_is_over")

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._is_over = False

    def append(self, function: Callable[[], object]) -> None:
        """Have a function called; at once, where the turn is over already."""
        self._calls.append(function)
        if self._is_over:
            self.begin()

    def begin(self) -> None:
        """Make the calls: the turn is over."""
        self._is_over = True
        while self._calls:
            self._calls.pop(0)()


class Group:
    """Subscribers that can be used from the same thread.

    :param members: the connections, and what sends them messages: their senders, or others.
    """

    __slots__ = ("_home", "_members", "_spreader", "round")

    def __init__(self, members: list[tuple[AnyConnection, Any]]) -> None:
        self._members = members
        connections = [connection for connection, _ in members]
        self._home = connections[0].home
        # On the asyncio loop, connections send what was queued at the end of its turn.
        self._spreader = (
            None if isinstance(connections[0], AsyncConnection) else spreader_for(connections[0])
        )
        self.round = Round(connections)

    def send(
        self,
        message: SharedMessage,
        excluded: Collection[AnyConnection],
        later: list[Callable[[], object]],
    ) -> None:
        """Send each of them a message; waits for none.

        :param later: gets the calls to make when the turn is over: they log, or may wait.
        """
        if self._home is None:
            self._send(message, excluded, later)
        else:
            afterwards = Afterwards()
            later.append(afterwards.begin)
            self._home.run(functools.partial(self._send, message, excluded, afterwards))

    def send_all(self, messages: list[SharedMessage], later: list[Callable[[], object]]) -> None:
        """Send each of them messages together; otherwise as :meth:`send`."""
        if self._home is None:
            self._send_all(messages, later)
        else:
            afterwards = Afterwards()
            later.append(afterwards.begin)
            self._home.run(functools.partial(self._send_all, messages, afterwards))

    def _send_all(
        self, messages: list[SharedMessage], later: list[Callable[[], object]] | Afterwards
    ) -> None:
        for connection, sender in self._members:
            try:
                fits = [sender.queue_shared(message) for message in messages]
                if not all(fits):
                    later.append(sender.overflow)
                connection.sender.flush()
            except Exception as error:
                later.append(functools.partial(_report, connection, error))

    def count(self, excluded: Collection[AnyConnection]) -> int:
        """Count those that are sent a message."""
        connections = self.round.connections
        if not excluded:
            return len(connections)
        return sum(connection not in excluded for connection in connections)

    def _send(
        self,
        message: SharedMessage,
        excluded: Collection[AnyConnection],
        later: list[Callable[[], object]] | Afterwards,
    ) -> None:
        if message.first == CLOSE:
            self._dismiss(message, excluded, later)
            return
        members = self._members
        few = len(members) <= FEW
        for connection, sender in members:
            if excluded and connection in excluded:
                continue
            try:
                if not (sender.send_shared(message) if few else sender.queue_shared(message)):
                    later.append(sender.overflow)
            except Exception as error:
                # A failure of one connection must not affect the others.
                later.append(functools.partial(_report, connection, error))
        if not few and self._spreader is not None:
            later.append(functools.partial(self._spreader.add, self.round, len(message.payload)))

    def _dismiss(
        self,
        message: SharedMessage,
        excluded: Collection[AnyConnection],
        later: list[Callable[[], object]] | Afterwards,
    ) -> None:
        """End the connections as a close frame says."""
        close = read_control(CLOSE, bytes(message.payload))
        assert isinstance(close, Close)
        for connection in self.round.connections:
            if connection not in excluded:
                # When the turn is over: it may log, and the end of a connection calls the app.
                later.append(functools.partial(_end, connection, close))


def _end(connection: AnyConnection, close: Close) -> None:
    try:
        connection.dismiss(close.code, close.reason)
    except Exception as error:
        _report(connection, error)


def _report(connection: AnyConnection, error: Exception) -> None:
    logger.error("%s: a publication could not be delivered.", connection.label, exc_info=error)


def send_alone(
    connection: AnyConnection,
    sender: Any,
    messages: list[SharedMessage],
    later: list[Callable[[], object]],
) -> None:
    """Send one connection messages, without waiting.

    :param sender: what sends it messages.
    :param later: gets the calls to make when the turn is over: they log, or may wait.
    """
    group = Group([(connection, sender)])
    if len(messages) == 1:
        group.send(messages[0], (), later)
    else:
        group.send_all(messages, later)
