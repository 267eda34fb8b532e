"""The subscribers of one channel, and sending them a message."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Collection

from ..concurrency import HomeThread
from ..connection.connection import Connection
from ..protocol.shared import SharedMessage
from .spreader import Round, spreader_for

__all__ = ["Subscribers"]

logger = logging.getLogger("flask_ws")

#: Up to this many subscribers are sent a publication at once, and not by the spreader.
FEW = 16


class Group:
    """Subscribers that can be used from the same thread.

    :param connections: the connections.
    """

    __slots__ = ("_home", "_spreader", "round")

    def __init__(self, connections: list[Connection]) -> None:
        self._home = connections[0].home
        self._spreader = spreader_for(connections[0])
        self.round = Round(connections)

    def send(self, message: SharedMessage, excluded: Collection[Connection]) -> None:
        """Send each of them a message; waits for none."""
        if self._home is None:
            self._send(message, excluded)
        else:
            self._home.run(functools.partial(self._send, message, excluded))

    def _send(self, message: SharedMessage, excluded: Collection[Connection]) -> None:
        connections = self.round.connections
        few = len(connections) <= FEW
        for connection in connections:
            if excluded and connection in excluded:
                continue
            try:
                if few:
                    connection.sender.send_shared(message)
                else:
                    connection.sender.queue_shared(message)
            except Exception:
                # Others have done nothing to deserve that.
                logger.exception("%s did not take a publication.", connection.label)
        if not few:
            self._spreader.add(self.round, len(message.plain))


#: The groups of a channel on which nothing has been published yet, as most of them are.
NO_GROUPS: tuple[int, list[Group]] = -1, []


class Subscribers:
    """The connections that are subscribed to one channel, in this process."""

    __slots__ = ("_connections", "_grouped", "_messages", "_size", "_version", "call", "is_told")

    def __init__(self) -> None:
        # A dictionary keeps the order in which they came.
        self._connections: dict[Connection, None] = {}
        self._version = 0
        # The same for publishers, who take no lock, and of which version it is.
        self._grouped = NO_GROUPS
        # What has been put into outboxes and perhaps not sent, so that it is not too much, ever.
        self._messages = self._size = 0
        #: Whether the broker knows of them; and set at the end of the call that tells it.
        self.is_told = False
        self.call: threading.Event | None = None

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        """Take in a connection that is not here."""
        self._connections[connection] = None
        self._change()

    def remove(self, connection: Connection) -> None:
        """Let go of one that is."""
        del self._connections[connection]
        self._change()

    def _change(self) -> None:
        self._version += 1
        # Not until somebody publishes: those who are gone would be kept so long.
        for group in self._grouped[1]:
            self._messages += group.round.messages
            self._size += group.round.size
        self._grouped = NO_GROUPS

    def count(self) -> int:
        """Count those that are open."""
        return sum(connection.connected for connection in list(self._connections))

    def send(self, message: SharedMessage, excluded: Collection[Connection]) -> None:
        """Send each of them a message; waits for none."""
        version, groups = self._grouped
        if version != self._version:
            groups = self._group()
        for group in groups:
            group.send(message, excluded)

    def _group(self) -> list[Group]:
        # Before the dictionary is read: what comes meanwhile is for the next look at it.
        version = self._version
        found: dict[tuple[HomeThread | None, str], list[Connection]] = {}
        # A copy, which no other thread can interrupt.
        for connection in list(self._connections):
            key = connection.home, connection.concurrency.name
            found.setdefault(key, []).append(connection)
        groups = [Group(connections) for connections in found.values()]
        for group in groups:
            group.round.messages, group.round.size = self._messages, self._size
        self._messages = self._size = 0
        self._grouped = version, groups
        return groups
