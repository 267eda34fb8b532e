"""ClusterBroker: publications through a cluster, where each channel has its own server."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from flask_ws import Broker, BrokerError, BrokerWish, History, Lease, Members, Position, Retention

from . import history, presence
from .history import Histories
from .keys import find_slot, lease_key
from .placing import Placer
from .scripts import Execute
from .server import decode, escape, use
from .settings import Settings
from .topology import Topology

__all__ = ["ClusterBroker"]

T = TypeVar("T")


class ClusterBroker(Broker):
    """A broker on a cluster, by sharded publications (Redis 7 and Valkey have them).

    Each channel belongs to one of the servers: there it is published, and there a listener is
    subscribed to it.

    :param settings: how to reach it.
    """

    brings_back = True
    keeps_history = True
    uses_once = True
    tracks_presence = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._histories = Histories("SPUBLISH", settings.answer_timeout)
        self._topology = Topology(settings, super().went_away, self.came_back)
        self._placer = Placer(self._topology, settings, self.interrupted)

    def start(self, deliver: Callable[..., object]) -> None:
        """Get ready; connections are made when they are needed."""
        self._placer.deliver = history.opening(deliver)

    def publish(self, channel: str, payload: bytes) -> None:
        """Publish, once: what fails is not tried again, since it might arrive twice.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :raises BrokerError: the channel's server cannot be reached.
        :raises ValueError: the channel has no UTF-8.
        """
        name = channel.encode()
        self._call(channel, lambda execute: execute("SPUBLISH", name, history.wrap(payload)))

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Publish a message, and keep it.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :param retention: how much is kept.
        :return: its position.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        client, node = self._topology.find(channel)
        clock = self._topology.clock(node.name)
        return self._topology.call(
            client,
            node,
            lambda execute: self._histories.keep(execute, clock, name, payload, retention),
        )

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Read what is kept, and the position.

        :param channel: the channel.
        :param retention: how much is kept.
        :param since: what came before it is left out.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        return self._call(
            channel,
            lambda execute: self._histories.read(execute, name, retention, since),
        )

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members into a channel, and drop others.

        :param channel: the channel.
        :param lease: what those that are put depend on.
        :param put: their data.
        :param dropped: who is dropped.
        :return: whether the lease is held in the channel's slot.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        keys = functools.partial(lease_key, find_slot(name))
        return self._call(
            channel,
            lambda execute: presence.change(
                execute, name, lease, put, dropped, lease_key=keys, command="SPUBLISH"
            ),
        )

    def read_members(self, channel: str) -> Members:
        """Read the members of a channel.

        :param channel: the channel.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        keys = functools.partial(lease_key, find_slot(name))
        return self._call(channel, lambda execute: presence.read(execute, name, lease_key=keys))

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str]:
        """Hold a lease, in the slots of channels.

        :param lease: the lease.
        :param seconds: for how long.
        :param channels: the channels.
        :return: those in which it was not held before.
        :raises BrokerError: the server of one of them cannot be reached. At the others it is held.
        """
        by_slot: dict[int, list[str]] = {}
        for channel in channels:
            by_slot.setdefault(find_slot(channel.encode()), []).append(channel)
        functions = {}
        for slot, names in by_slot.items():
            key = lease_key(slot, lease.name)
            functions[names[0]] = functools.partial(
                presence.renew, key=key, lease=lease, seconds=seconds
            )
        were_held = self._call_all(functions)
        return [name for names in by_slot.values() if not were_held[names[0]] for name in names]

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members whose leases are lost.

        :param leases: those that have members, by channel.
        :raises BrokerError: the server of a channel cannot be reached. At the others it is done.
        """
        functions = {}
        for channel, names in leases.items():
            name = channel.encode()
            functions[channel] = functools.partial(
                presence.expire,
                channel=name,
                leases=names,
                lease_key=functools.partial(lease_key, find_slot(name)),
                command="SPUBLISH",
            )
        self._call_all(functions)

    def subscribe(self, channel: str) -> None:
        """Subscribe; returns when the channel's server has confirmed it, or is away.

        :param channel: the channel.
        :raises ValueError: it has no UTF-8.
        """
        channel.encode()
        wish = BrokerWish()
        self._placer.wish(channel, wish)
        try:
            wish.wait()
        except BaseException:
            # Such as a greenlet's timeout: for the caller, nothing is subscribed.
            self._placer.wish(channel, None)
            raise

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe.

        :param channel: the channel.
        """
        self._placer.wish(channel, None)

    def use_once(self, key: str, seconds: float) -> bool:
        """Take note that something is used; ``True`` for the first time.

        :param key: what is used.
        :param seconds: for how long to remember it.
        :raises BrokerError: the key's server cannot be reached.
        """
        return self._call(key, lambda execute: execute(*use(key, seconds))) is not None

    def is_deaf(self, channel: str) -> bool:
        """Tell whether its server does not send this process what is published on a channel.

        :param channel: the channel.
        """
        return self._placer.is_deaf(channel)

    def channels(self, prefix: str) -> dict[str, int]:
        """Ask the servers for the channels that have subscribers.

        :param prefix: how their names begin.
        :return: the numbers of processes, by channel.
        :raises BrokerError: one of the servers cannot be reached.
        """
        found: dict[str, int] = {}
        client = self._topology.connect()
        count = functools.partial(_count, pattern=escape(prefix) + b"*")
        with client as cluster:
            for node in cluster.get_primaries():
                found |= self._topology.call(client, node, count)
        return found

    def went_away(self, reason: str) -> None:
        """Do nothing: the failed call has reported it, and Redis may be back since.

        :param reason: what happened.
        """

    def close(self) -> None:
        """Disconnect, and end all threads."""
        self._placer.close()
        self._topology.close()

    def _call(self, channel: str, function: Callable[[Execute], T]) -> T:
        """Have something done at the server of a channel."""
        return self._topology.call(*self._topology.find(channel), function)

    def _call_all(self, functions: Mapping[str, Callable[[Execute], T]]) -> dict[str, T]:
        """Have something done at the server of each of these channels.

        :raises BrokerError: one of them cannot be reached; at the others it is done.
        """
        answers: dict[str, T] = {}
        errors: list[BrokerError] = []
        for channel, function in functions.items():
            try:
                answers[channel] = self._call(channel, function)
            except BrokerError as error:
                errors.append(error)
        if errors:
            # Many channels, and few servers.
            raise BrokerError("; ".join(dict.fromkeys(map(str, errors)))) from errors[0]
        return answers


def _count(execute: Execute, pattern: bytes) -> dict[str, int]:
    """Ask a server for the channels that have subscribers there."""
    names = execute("PUBSUB SHARDCHANNELS", pattern)
    numbers = execute("PUBSUB SHARDNUMSUB", *names) if names else ()
    return {decode(name): number for name, number in _pair_up(numbers) if number}


def _pair_up(numbers: Any) -> list[tuple[bytes, int]]:
    """Read pairs of names and numbers, which some versions of redis-py leave in one list."""
    if numbers and not isinstance(numbers[0], (tuple, list)):
        return list(zip(numbers[::2], numbers[1::2], strict=True))
    return [(name, number) for name, number in numbers]
