"""Channels: publishing to subscribers, in this process and in others."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.history import Position
from ..plugin.memory import MemoryBroker
from ..process import after_fork
from ..protocol.control import write_close
from ..protocol.frames import BINARY, BytesLike, encode
from ..protocol.frames import CLOSE as CLOSE_FRAME
from ..protocol.shared import SharedMessage
from .attendance import Attendance, refuse_more
from .hooks import Hooks, wrap
from .listening import Listening, Mailbox
from .opening import Opened, Opening
from .overflow import CLOSE, make_lossy
from .publishing import publish
from .results import NOT_TAKEN, Published, Subscription
from .settings import IDENTITY, PRESENCE, RESERVED, check_name
from .starts import ALL
from .subscriptions import Subscriptions
from .wrapping import Wrapped, ready

__all__ = ["Channels"]

logger = logging.getLogger("flask_ws")

#: A position that no history has.
NOWHERE = Position("", 1)


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
        #: The functions that are called for what is published.
        self.hooks = Hooks()
        #: Who is there.
        self.attendance = Attendance(self._get, lambda: self._opening.made)
        self.start_anew()
        # A child must not use its parent's broker and connections.
        after_fork(self.start_anew)

    def start_anew(self) -> None:
        """Forget all; in a child after a fork, all of it is the parent's."""
        self._opening = Opening(self._config, self._on_change)
        self._publications = 0
        self.hooks.start_anew()

    @property
    def subscriptions(self) -> Subscriptions | None:
        """Who is subscribed to what; ``None`` before anybody has subscribed or published."""
        opened = self._opening.made
        return None if opened is None else opened.subscriptions

    @property
    def is_local(self) -> bool:
        """Whether nothing here waits for a broker."""
        return self._opening.is_local

    def subscribe(
        self,
        connection: AnyConnection,
        channel: str,
        *,
        limit: int,
        alone: bool = True,
        since: str | None = None,
        gap: str | BytesLike | None = None,
        overflow: str = CLOSE,
        wrapped: Wrapped | None = None,
    ) -> Subscription:
        """Subscribe a connection to a channel.

        :param limit: the channels that the connection may be subscribed to, at most; one more
            ends it with 1008.
        :param alone: whether its server runs no other processes.
        :param since: the position up to which it has the messages, or ``"all"``.
        :param gap: the message that it is sent where messages are missing.
        :param overflow: what becomes of messages for which its client reads too slowly.
        :param wrapped: what sends it messages in place of its own sender.
        :raises ConnectionClosed: the connection is closed.
        """
        check_name(channel)
        place = _read_since(since)
        mark = None if gap is None else _make_message(gap)
        lossy = make_lossy(overflow, connection, channel, mark)
        return self._add(connection, channel, limit, alone, place, mark, lossy, wrapped)

    def watch(
        self, connection: AnyConnection, channel: str, *, limit: int, alone: bool = True
    ) -> None:
        """Have a connection told who is there: the members of a channel, and then what changes.

        :param limit: as for :meth:`subscribe`.
        :param alone: whether its server runs no other processes.
        :raises ConnectionClosed: the connection is closed.
        """
        check_name(channel)
        self.attendance.open(alone=alone)
        self._add(connection, PRESENCE + channel, limit, alone)

    def _add(
        self, connection: AnyConnection, name: str, limit: int, alone: bool, *more: Any
    ) -> Subscription:
        subscription = self._get(alone=alone).subscriptions.add(connection, name, limit, *more)
        if subscription is None:
            refuse_more(
                connection,
                f"more than {limit} subscriptions (SOCK_MAX_SUBSCRIPTIONS)",
                "subscriptions",
            )
            # It is closed by now, and that has raised.
            subscription = Subscription(None, recovered=False)
        return subscription

    def enter(
        self, connection: AnyConnection, identity: str, wrapped: Wrapped | None = None
    ) -> None:
        """Have a connection reached by what is sent to a user, until it ends.

        :param wrapped: what sends it messages in place of its own sender.
        :raises ConnectionClosed: the connection is closed.
        """
        self._get().subscriptions.add(connection, IDENTITY + identity, sys.maxsize, wrapped=wrapped)

    def listen(self, channel: str, since: str | None = None) -> Listening:
        """Subscribe a program to a channel.

        :param since: the position up to which it has the messages, or ``"all"``.
        """
        check_name(channel)
        place = _read_since(since)
        mailbox = Mailbox(channel)
        # A mailbox has the methods of a connection that are called here.
        connection = cast("AnyConnection", mailbox)
        subscription = self._get().subscriptions.add(connection, channel, 1, place, mailbox.gap)
        # One subscription is not too many.
        assert subscription is not None
        return Listening(mailbox, subscription, functools.partial(self.forget, connection))

    def unsubscribe(self, connection: AnyConnection, channel: str, last: str | None = None) -> None:
        """End a subscription; there may be none.

        :param last: what the connection is sent after the last message of the channel.
        """
        check_name(channel)
        self._remove(connection, channel, last)

    def unwatch(self, connection: AnyConnection, channel: str, last: str | None = None) -> None:
        """Have a connection told no more who is there; it need not be.

        :param last: what the connection is sent after that.
        """
        check_name(channel)
        self._remove(connection, PRESENCE + channel, last)

    def _remove(self, connection: AnyConnection, name: str, last: str | None) -> None:
        if self.subscriptions is not None:
            mark = None if last is None else _make_message(last)
            self.subscriptions.remove(connection, name, mark)

    def of(self, connection: AnyConnection) -> Collection[str]:
        """Return the channels that a connection is subscribed to; they may change."""
        return () if self.subscriptions is None else self.subscriptions.of(connection)

    def forget(self, connection: AnyConnection) -> None:
        """End all subscriptions of a connection that is closed, and have it leave its channels."""
        # Before anybody has subscribed there are none, nor can this connection make one.
        opened = self._opening.made
        if opened is not None:
            opened.subscriptions.forget(connection)
            opened.keeper.forget(connection)

    def count(self, channel: str) -> int:
        """Count the open connections that are subscribed to a channel, in this process."""
        check_name(channel)
        subscriptions = self.subscriptions
        subscribers = None if subscriptions is None else subscriptions.get(channel)
        return 0 if subscribers is None else subscribers.count()

    def count_connections(self, identity: str) -> int:
        """Count the open connections of a user, in all processes.

        :raises BrokerError: the others cannot be asked now.
        """
        opened, channel = self._get(), IDENTITY + identity
        if opened.census is not None:
            return opened.census.count(channel)
        subscribers = opened.subscriptions.get(channel)
        return 0 if subscribers is None else subscribers.count()

    def use_once(self, key: str, seconds: float, *, alone: bool) -> bool:
        """Take note that something is used, for so many seconds; ``True`` for the first time.

        :param alone: whether the app's server runs no other processes.
        :raises BrokerError: the broker cannot be reached, so that nobody knows.
        """
        return self._opening.use_once(key, seconds, alone=alone)

    def position(self, channel: str) -> str | None:
        """Return a channel's position now; ``None`` without history, or without the broker."""
        check_name(channel)
        try:
            opened = self._get()
            retention = None if opened.find_retention is None else opened.find_retention(channel)
            if retention is None:
                return None
            return str(opened.broker.read_history(opened.prefix + channel, retention).position)
        except BrokerError:
            return None

    def publish(
        self,
        channel: str,
        data: str | BytesLike,
        excluded: Collection[AnyConnection] = (),
        *,
        is_json: bool = False,
    ) -> Published:
        """Send a message to all subscribers, through the broker.

        Those in this process get it when the broker brings it back, so that all have one order;
        at once, where it brings nothing back, or cannot be reached.

        :param is_json: whether it is text that was made as JSON.
        :return: an object that is true if the broker has taken it.
        """
        check_name(channel)
        first, payload = encode(data)
        if self.hooks.find is None:
            return self._publish(channel, first, payload, excluded, is_json=is_json)
        for_hooks = self.hooks.find(channel)
        if for_hooks:
            self.begin()
            # The same for all of them, though the caller may change it.
            payload = bytes(payload)
        published = self._publish(channel, first, payload, excluded, is_json=is_json)
        for name in for_hooks:
            self._publish(name, BINARY, wrap(channel, published.position, first, payload))
        return published

    def send_to(
        self,
        identity: str,
        data: str | BytesLike,
        excluded: Collection[AnyConnection] = (),
        *,
        is_json: bool = False,
    ) -> Published:
        """Send a message to all connections of a user, as :meth:`publish` does."""
        first, payload = encode(data)
        return self._publish(IDENTITY + identity, first, payload, excluded, is_json=is_json)

    def disconnect(self, identity: str, code: int, reason: str) -> Published:
        """End all connections of a user, in the order of what they are sent."""
        return self._publish(IDENTITY + identity, CLOSE_FRAME, write_close(code, reason))

    def _publish(
        self,
        channel: str,
        first: int,
        payload: BytesLike,
        excluded: Collection[AnyConnection] = (),
        *,
        is_json: bool = False,
    ) -> Published:
        with self._counting:
            self._publications += 1
        if not isinstance(payload, bytes):
            # The caller may change it later.
            payload = bytes(payload)
        try:
            opened = self._opening.made or self._get()
        except BrokerError:
            # Nobody can have subscribed yet.
            return NOT_TAKEN
        return publish(opened, channel, first, payload, excluded, is_json=is_json)

    def begin(self) -> None:
        """Have this process call the app's functions for what is published, unless it does."""
        if self.hooks.is_due:
            try:
                opened = self._get()
                self.hooks.subscribe(opened.broker, opened.prefix, opened.subscriptions)
            except Exception:
                # The next call tries again.
                logger.exception("No function is called for what is published (on_publish).")

    def stats(self) -> dict[str, Any]:
        """Return the numbers of the channels in this process, by the names of :class:`Stats`."""
        opened = self._opening.made
        if opened is None:
            return {
                "channels": 0,
                "subscribers": 0,
                "publications": self._publications,
                "deliveries": 0,
                "dropped": 0,
                "gaps": 0,
                "members": 0,
                "broker": "unused",
            }
        broker = "away" if opened.broker.is_away else "connected"
        subscriptions = opened.subscriptions
        deliveries, dropped = subscriptions.count_deliveries()
        return {
            "channels": len(subscriptions.all()),
            "subscribers": len(subscriptions),
            "publications": self._publications,
            "deliveries": deliveries,
            "dropped": dropped,
            "gaps": subscriptions.count_gaps(),
            "members": len(opened.keeper),
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
            if channel.startswith(prefix) and not channel.startswith(prefix + RESERVED)
        }

    def close(self) -> None:
        """Disconnect from the broker, and forget all subscriptions."""
        opened = self._opening.made
        self.hooks.close()
        self.start_anew()
        if opened is not None:
            opened.close()

    def _get(self, *, alone: bool = True) -> Opened:
        return self._opening.get(alone=alone)


def _read_since(since: object) -> Position | None:
    """Read a position that a client may have sent: what is none is one of no history."""
    if since is None:
        return None
    if not isinstance(since, str):
        raise TypeError(f"A position is text, not {type(since).__name__}.")
    return ALL if since == "all" else Position.parse(since) or NOWHERE


def _make_message(data: str | BytesLike) -> SharedMessage:
    first, payload = encode(data)
    return ready(SharedMessage(first, bytes(payload)))
