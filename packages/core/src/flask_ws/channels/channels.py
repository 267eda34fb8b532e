"""Channels: who is subscribed to what in this process, and the way to the other processes."""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
import weakref
from collections.abc import Collection, Mapping
from typing import Any

from ..concurrency import HomeThread
from ..connection.connection import Connection
from ..exceptions import BrokerError, ConfigurationError
from ..plugin.brokers import Broker, MemoryBroker
from ..plugin.manager import plugins
from ..protocol.frames import BINARY, TEXT, BytesLike, encode
from ..protocol.shared import SharedMessage
from .spreader import Round, spreader_for

__all__ = ["Channels", "check_settings"]

logger = logging.getLogger("flask_ws")

URL_KEY = "SOCK_BROKER_URL"
PREFIX_KEY = "SOCK_BROKER_PREFIX"
DEFAULT_URL = "memory://"
DEFAULT_PREFIX = "flask_ws:"

#: A publication on its way between processes begins with the version of its format, which
#: process it is from, and whether it is text.
VERSION = b"\x01"
ORIGIN_SIZE = 8
HEAD_SIZE = len(VERSION) + ORIGIN_SIZE + 1
KINDS = {TEXT: b"t", BINARY: b"b"}
FIRST_BYTES = {kind[0]: first for first, kind in KINDS.items()}


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


class Subscribers:
    """The connections that are subscribed to one channel, in this process."""

    __slots__ = ("_connections", "_grouped", "_messages", "_size", "_version")

    def __init__(self) -> None:
        # A dictionary keeps the order in which they came.
        self._connections: dict[Connection, None] = {}
        self._version = 0
        # The same for publishers, who take no lock, and of which version it is.
        self._grouped: tuple[int, list[Group]] = 0, []
        # What has been put into outboxes and perhaps not sent, so that it is not too much, ever.
        self._messages = self._size = 0

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections[connection] = None
        self._change()

    def remove(self, connection: Connection) -> None:
        del self._connections[connection]
        self._change()

    def _change(self) -> None:
        self._version += 1
        # Not until somebody publishes: those who are gone would be kept so long.
        for group in self._grouped[1]:
            self._messages += group.round.messages
            self._size += group.round.size
        self._grouped = -1, []

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


class Channels:
    """The channels of one app in this process. Any thread may use them.

    :param config: the app's configuration; what it says about the broker is read when it is
        first needed.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.start_anew()
        _all.add(self)

    def start_anew(self) -> None:
        """Forget all; in a child after a fork, nothing here is its own."""
        self._locks: dict[str, threading.Lock] = {}
        self._channels: dict[str, Subscribers] = {}
        self._subscriptions: dict[Connection, set[str]] = {}
        self._broker: Broker | None = None
        self._prefix = ""
        self._origin = b""
        self._warned = False

    @property
    def _changing(self) -> threading.Lock:
        """Held while the broker is told of subscriptions, so that it hears of them in order.

        Those who publish, or pass on what the broker brings, never take it.
        """
        return self._lock("changing")

    def _lock(self, name: str) -> threading.Lock:
        # Made when it is needed: with gunicorn's --preload, monkey-patching comes after the fork.
        return self._locks.get(name) or self._locks.setdefault(name, threading.Lock())

    def subscribe(self, connection: Connection, channel: str, *, alone: bool = True) -> None:
        """Subscribe a connection to a channel.

        :param alone: whether its server runs no other processes.
        :raises ConnectionClosed: the connection is closed.
        """
        check_name(channel)
        broker = self._open()
        if not alone and isinstance(broker, MemoryBroker):
            self._warn()
        with self._changing:
            # Under the lock: whoever releases the connection takes it next.
            connection.check_connected()
            own = self._subscriptions.setdefault(connection, set())
            if channel in own:
                return
            subscribers = self._channels.get(channel)
            if subscribers is None:
                broker.subscribe(self._prefix + channel)
                subscribers = self._channels[channel] = Subscribers()
            subscribers.add(connection)
            own.add(channel)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """End a subscription; there may be none."""
        check_name(channel)
        with self._changing:
            own = self._subscriptions.get(connection)
            if own is not None and channel in own:
                own.remove(channel)
                if not own:
                    del self._subscriptions[connection]
                self._remove(connection, channel)

    def forget(self, connection: Connection) -> None:
        """End all subscriptions of a connection that is closed."""
        if self._broker is None:
            # Nobody has subscribed, nor can this connection any more.
            return
        with self._changing:
            for channel in self._subscriptions.pop(connection, ()):
                self._remove(connection, channel)

    def _remove(self, connection: Connection, channel: str) -> None:
        subscribers = self._channels[channel]
        subscribers.remove(connection)
        if not subscribers:
            del self._channels[channel]
            assert self._broker is not None
            self._broker.unsubscribe(self._prefix + channel)

    def count(self, channel: str) -> int:
        """Count the open connections that are subscribed to a channel, in this process."""
        check_name(channel)
        subscribers = self._channels.get(channel)
        return 0 if subscribers is None else subscribers.count()

    def publish(
        self,
        channel: str,
        data: str | BytesLike,
        excluded: Collection[Connection] = (),
    ) -> bool:
        """Send a message to all subscribers: here at once, elsewhere by the broker.

        :return: whether the broker has taken it.
        """
        check_name(channel)
        first, payload = encode(data)
        if not isinstance(payload, bytes):
            # The caller may go on to change it.
            payload = bytes(payload)
        broker = self._open()
        self._send(channel, first, payload, excluded)
        if isinstance(broker, MemoryBroker):
            return True
        try:
            broker.publish(
                self._prefix + channel, b"".join((VERSION, self._origin, KINDS[first], payload))
            )
        except BrokerError as error:
            broker.went_away(str(error))
            return False
        return True

    def list_all(self) -> dict[str, int] | None:
        """Ask the broker which channels have subscribers, and in how many processes."""
        broker = self._open()
        found = broker.channels(self._prefix)
        if found is None:
            return None
        start = len(self._prefix)
        return {
            channel[start:]: number
            for channel, number in found.items()
            if channel.startswith(self._prefix)
        }

    def close(self) -> None:
        """Disconnect from the broker, and forget all subscriptions."""
        broker = self._broker
        self.start_anew()
        if broker in _brokers:
            _brokers.remove(broker)
            broker.close()

    def _send(
        self, channel: str, first: int, payload: bytes, excluded: Collection[Connection] = ()
    ) -> None:
        subscribers = self._channels.get(channel)
        if subscribers is not None:
            subscribers.send(SharedMessage(first, payload), excluded)

    def _receive(self, channel: str, payload: bytes) -> None:
        """Take in what the broker brings."""
        origin = payload[len(VERSION) : HEAD_SIZE - 1]
        if origin == self._origin:
            return
        first = FIRST_BYTES.get(payload[HEAD_SIZE - 1]) if len(payload) >= HEAD_SIZE else None
        if first is None or not payload.startswith(VERSION):
            logger.warning("A publication on %r is not from flask-ws, and is left out.", channel)
            return
        self._send(channel[len(self._prefix) :], first, payload[HEAD_SIZE:])

    def _open(self) -> Broker:
        """Return this process's broker; the first call makes it."""
        if self._broker is not None:
            return self._broker
        with self._lock("opening"):
            if self._broker is None:
                url, self._prefix = check_settings(self._config)
                self._origin = os.urandom(ORIGIN_SIZE)
                broker = plugins.open_broker(url)
                broker.start(self._receive)
                self._broker = broker
                if not isinstance(broker, MemoryBroker):
                    _brokers.add(broker)
            return self._broker

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "The server runs several processes, and SOCK_BROKER_URL is memory://: what one "
                "of them publishes does not reach the subscribers in the others. Set it to a "
                "broker that they share, such as redis:// of flask-ws[redis]."
            )


def check_settings(config: Mapping[str, Any]) -> tuple[str, str]:
    """Read an app's settings for the broker.

    :return: the URL and the prefix.
    :raises ConfigurationError: one of them is wrong.
    """
    url, prefix = config.get(URL_KEY), config.get(PREFIX_KEY)
    if url is None:
        url = DEFAULT_URL
    if prefix is None:
        prefix = DEFAULT_PREFIX
    if not isinstance(url, str):
        raise ConfigurationError(f"{URL_KEY} must be a URL, not a {type(url).__name__}.")
    if not isinstance(prefix, str):
        raise ConfigurationError(f"{PREFIX_KEY} must be text, not {prefix!r}.")
    return url, prefix


def check_name(channel: object) -> None:
    """Check a channel's name.

    :raises TypeError: it is no ``str``.
    :raises ValueError: it is empty.
    """
    if not isinstance(channel, str):
        raise TypeError(f"A channel's name is str, not {type(channel).__name__}.")
    if not channel:
        raise ValueError("A channel's name must not be empty.")


_all: weakref.WeakSet[Channels] = weakref.WeakSet()
_brokers: set[Broker] = set()


def close_brokers() -> None:
    """Disconnect, at the end of the process."""
    while _brokers:
        broker = _brokers.pop()
        try:
            broker.close()
        except Exception:
            logger.exception("The broker did not end well.")


def _start_anew() -> None:
    _brokers.clear()
    for channels in list(_all):
        channels.start_anew()


# Before the monitor registers its goodbye, and so called after it: on_close() may publish.
atexit.register(close_brokers)
if hasattr(os, "register_at_fork"):
    # The parent's broker is the parent's; its connections are as well.
    os.register_at_fork(after_in_child=_start_anew)
