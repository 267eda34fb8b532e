"""Channels: publishing to subscribers, in this process and in others."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..once import NotYetError, Once
from ..plugin.brokers import Broker, MemoryBroker
from ..plugin.manager import plugins
from ..process import after_fork
from ..protocol.frames import BINARY, TEXT, BytesLike, encode
from ..protocol.shared import SharedMessage
from .settings import check_name, read_broker
from .subscriptions import Subscriptions

__all__ = ["Channels"]

logger = logging.getLogger("flask_ws")

POLICY_VIOLATION = 1008

#: A publication sent between processes begins with the version of its format, which
#: process it is from, its number there, and whether it is text.
VERSION = b"\x02"
ORIGIN_SIZE = 8
NUMBER_SIZE = 8
HEAD_SIZE = len(VERSION) + ORIGIN_SIZE + NUMBER_SIZE + 1
KINDS = {TEXT: b"t", BINARY: b"b"}
FIRST_BYTES = {kind[0]: first for first, kind in KINDS.items()}


class Opened(NamedTuple):
    """What an app has in this process once it has published or subscribed."""

    broker: Broker
    prefix: str
    #: Identifies this process to the others.
    origin: bytes
    subscriptions: Subscriptions
    #: The numbers of its publications, each greater than those before it.
    numbers: Iterator[int]


class Channels:
    """The channels of one app in this process. Any thread may use them.

    :param config: the app's configuration; what it says about the broker is read when it is
        first needed.
    :param on_change: called with a reason when the broker is away, and with ``None`` when it is
        back.
    """

    def __init__(
        self, config: Mapping[str, Any], on_change: Callable[[str | None], object] | None = None
    ) -> None:
        self._config = config
        self._on_change = on_change
        self._counting = threading.Lock()
        self.start_anew()
        # A child must not use its parent's broker and connections.
        after_fork(self.start_anew)

    def start_anew(self) -> None:
        """Forget all; in a child after a fork, all of it is the parent's."""
        self._opening = Once(self._open)
        self._warned = False
        self._publications = 0

    @property
    def subscriptions(self) -> Subscriptions | None:
        """Who is subscribed to what; ``None`` before anybody has subscribed or published."""
        opened = self._opening.made
        return None if opened is None else opened.subscriptions

    @property
    def is_local(self) -> bool:
        """Whether nothing here waits for a broker."""
        opened = self._opening.made
        if opened is not None:
            return isinstance(opened.broker, MemoryBroker)
        # To open it would be to wait.
        return read_broker(self._config)[0].startswith("memory:")

    def subscribe(
        self, connection: AnyConnection, channel: str, *, limit: int, alone: bool = True
    ) -> None:
        """Subscribe a connection to a channel.

        :param limit: the channels that the connection may be subscribed to, at most; one more
            ends it with 1008.
        :param alone: whether its server runs no other processes.
        :raises ConnectionClosed: the connection is closed.
        """
        check_name(channel)
        opened = self._get()
        if not alone and isinstance(opened.broker, MemoryBroker):
            self._warn()
        if not opened.subscriptions.add(connection, channel, limit):
            logger.warning(
                "%s: more than %d subscriptions (SOCK_MAX_SUBSCRIPTIONS)", connection.label, limit
            )
            connection.sender.fail(POLICY_VIOLATION, "too many subscriptions")
            connection.check_connected()

    def unsubscribe(self, connection: AnyConnection, channel: str) -> None:
        """End a subscription; there may be none."""
        check_name(channel)
        if self.subscriptions is not None:
            self.subscriptions.remove(connection, channel)

    def forget(self, connection: AnyConnection) -> None:
        """End all subscriptions of a connection that is closed."""
        # Before anybody has subscribed there are none, nor can this connection make one.
        if self.subscriptions is not None:
            self.subscriptions.forget(connection)

    def count(self, channel: str) -> int:
        """Count the open connections that are subscribed to a channel, in this process."""
        check_name(channel)
        subscriptions = self.subscriptions
        subscribers = None if subscriptions is None else subscriptions.get(channel)
        return 0 if subscribers is None else subscribers.count()

    def publish(
        self,
        channel: str,
        data: str | BytesLike,
        excluded: Collection[AnyConnection] = (),
    ) -> bool:
        """Send a message to all subscribers, through the broker.

        Those in this process get it when the broker brings it back, so that all have one order;
        at once, where it brings nothing back, or cannot be reached.

        :return: whether the broker has taken it.
        """
        check_name(channel)
        with self._counting:
            self._publications += 1
        first, payload = encode(data)
        if not isinstance(payload, bytes):
            # The caller may change it later.
            payload = bytes(payload)
        try:
            opened = self._opening.made or self._get()
        except BrokerError:
            # Nobody can have subscribed yet.
            return False
        broker, number = opened.broker, next(opened.numbers)
        subscribers = opened.subscriptions.get(channel)
        if subscribers is not None and not broker.brings_back:
            subscribers.send(SharedMessage(first, payload), excluded)
            subscribers = None
        if isinstance(broker, MemoryBroker):
            return True
        if subscribers is not None:
            subscribers.expect(number, SharedMessage(first, payload), excluded)
        is_taken = False
        try:
            is_taken = _hand_over(opened, channel, first, payload, number)
        finally:
            if subscribers is None:
                pass
            elif is_taken:
                is_deaf = broker.is_deaf(opened.prefix + channel)
                subscribers.taken(number, next(opened.numbers), is_deaf=is_deaf)
            else:
                subscribers.send_own(number)
        return is_taken

    def stats(self) -> dict[str, Any]:
        """Return the numbers of the channels in this process, by the names of :class:`Stats`."""
        opened = self._opening.made
        if opened is None:
            return dict.fromkeys(("channels", "subscribers", "publications", "deliveries"), 0) | {
                "publications": self._publications,
                "broker": "unused",
            }
        broker = "away" if opened.broker.is_away else "connected"
        subscriptions = opened.subscriptions
        return {
            "channels": len(subscriptions.all()),
            "subscribers": len(subscriptions),
            "publications": self._publications,
            "deliveries": subscriptions.count_deliveries(),
            "broker": "memory" if isinstance(opened.broker, MemoryBroker) else broker,
        }

    def list_all(self) -> dict[str, int] | None:
        """Ask the broker which channels have subscribers, and in how many processes."""
        opened = self._get()
        broker, prefix = opened.broker, opened.prefix
        found = broker.channels(prefix)
        if found is None:
            return None
        return {
            channel[len(prefix) :]: number
            for channel, number in found.items()
            if channel.startswith(prefix)
        }

    def close(self) -> None:
        """Disconnect from the broker, and forget all subscriptions."""
        opened = self._opening.made
        self.start_anew()
        if opened is not None and opened.broker in _brokers:
            _brokers.remove(opened.broker)
            opened.broker.close()

    def _receive(self, channel: str, payload: bytes) -> None:
        """Pass a publication from the broker on to its subscribers."""
        opened = self._opening.made
        if opened is None:
            # Nobody can have subscribed yet.
            return
        name = channel[len(opened.prefix) :]
        start = len(VERSION) + ORIGIN_SIZE
        if payload[len(VERSION) : start] == opened.origin:
            subscribers = opened.subscriptions.get(name)
            if subscribers is not None:
                subscribers.send_own(int.from_bytes(payload[start : HEAD_SIZE - 1], "big"))
            return
        message = _read(payload)
        if message is None:
            logger.warning("A publication on %r is not from flask-ws, and is left out.", channel)
            return
        subscribers = opened.subscriptions.get(name)
        if subscribers is not None:
            subscribers.send(message)

    def _interrupted(self, channel: str | None) -> None:
        """Handle a possible loss of publications; on all channels, if none is named."""
        opened = self._opening.made
        if opened is None:
            return
        if channel is None:
            for subscribers in opened.subscriptions.all():
                subscribers.interrupt()
        else:
            found = opened.subscriptions.get(channel[len(opened.prefix) :])
            if found is not None:
                found.interrupt()

    def _get(self) -> Opened:
        try:
            return self._opening.get()
        except NotYetError:
            # A log handler publishes or subscribes while the broker is being opened.
            raise BrokerError("The broker is being opened.") from None

    def _open(self) -> Opened:
        url, prefix = read_broker(self._config)
        broker = plugins.open_broker(url)
        broker.on_interruption = self._interrupted
        broker.on_change = self._on_change
        broker.start(self._receive)
        if not isinstance(broker, MemoryBroker):
            _brokers.add(broker)
        subscriptions = Subscriptions(broker, prefix)
        return Opened(broker, prefix, os.urandom(ORIGIN_SIZE), subscriptions, itertools.count())

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "The server runs several processes, and SOCK_BROKER_URL is memory://: what one "
                "of them publishes does not reach the subscribers in the others. Set it to a "
                "broker that they share, such as redis:// of flask-ws[redis]."
            )


def _hand_over(opened: Opened, channel: str, first: int, payload: bytes, number: int) -> bool:
    """Hand a publication over to the broker; ``False`` if it cannot be reached."""
    head = VERSION, opened.origin, number.to_bytes(NUMBER_SIZE, "big"), KINDS[first]
    try:
        opened.broker.publish(opened.prefix + channel, b"".join((*head, payload)))
    except BrokerError as error:
        opened.broker.went_away(str(error))
        return False
    return True


def _read(payload: bytes) -> SharedMessage | None:
    """Read a publication of another process; ``None`` if it is none, or text that is not UTF-8."""
    first = FIRST_BYTES.get(payload[HEAD_SIZE - 1]) if len(payload) >= HEAD_SIZE else None
    if first is None or not payload.startswith(VERSION):
        return None
    data = payload[HEAD_SIZE:]
    if first == TEXT and not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return None
    return SharedMessage(first, data)


_brokers: set[Broker] = set()


def close_brokers() -> None:
    """Disconnect, at the end of the process."""
    while _brokers:
        broker = _brokers.pop()
        try:
            broker.close()
        except Exception:
            logger.exception("The broker did not end well.")


# Registered before the monitor's exit function, so called after it: on_close() may publish.
atexit.register(close_brokers)
after_fork(_brokers.clear)
