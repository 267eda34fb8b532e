"""ServerBroker: publications through one Redis."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import redis
from redis.exceptions import RedisError

from flask_ws import (
    BrokerError,
    History,
    Lease,
    ListeningBroker,
    Members,
    Position,
    Retention,
)

from . import history, presence
from .clock import ServerClock
from .history import Histories
from .listener import Listener
from .scripts import Execute
from .settings import Settings
from .shared import SharedClient

__all__ = ["ServerBroker", "decode", "escape", "use"]

T = TypeVar("T")

#: Seconds that a publisher waits for one of the connections, at most.
TURN_SECONDS = 1.0


class ServerBroker(ListeningBroker):
    """A broker on one Redis: a few connections to publish on, and one to listen on.

    :param settings: how to reach it.
    """

    keeps_history = True
    uses_once = True
    tracks_presence = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._client: SharedClient | None = None
        self._histories = Histories("PUBLISH", settings.answer_timeout)
        self._clock = ServerClock(settings.answer_timeout)

    def start(self, deliver: Callable[..., object]) -> None:
        """Get ready; connections are made when they are needed."""
        settings = self._settings
        self._deliver = history.opening(deliver)
        self._health = self.make_health(settings.full_name)
        pool = redis.BlockingConnectionPool(
            connection_class=settings.connection_class,
            max_connections=settings.max_connections,
            timeout=TURN_SECONDS,
            **settings.arguments,
        )
        self._client = SharedClient(redis.Redis(connection_pool=pool), pool.disconnect)

    def publish(self, channel: str, payload: bytes) -> int:
        """Publish, once: what fails is not tried again, since it might arrive twice.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :return: how many processes are subscribed.
        :raises BrokerError: Redis cannot be reached.
        """
        reached: int = self._ask("PUBLISH", channel.encode(), history.wrap(payload))
        return reached

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Publish a message, and keep it.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :param retention: how much is kept.
        :return: its position.
        :raises BrokerError: Redis cannot be reached.
        """
        name = channel.encode()
        return self._call(
            lambda execute: self._histories.keep(execute, self._clock, name, payload, retention)
        )

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Read what is kept, and the position.

        :param channel: the channel.
        :param retention: how much is kept.
        :param since: what came before it is left out.
        :raises BrokerError: Redis cannot be reached.
        """
        name = channel.encode()
        return self._call(lambda execute: self._histories.read(execute, name, retention, since))

    def _ask(self, *command: str | bytes) -> Any:
        return self._call(lambda execute: execute(*command))

    def _call(self, function: Callable[[Execute], T]) -> T:
        assert self._client is not None
        health = self._health
        attempt = health.check()
        try:
            with self._client as client:
                answer = function(client.execute_command)
        except (RedisError, OSError) as error:
            health.fail(error, attempt)
            raise BrokerError(f"{health.name}: {error}") from error
        health.succeed()
        return answer

    def make_listener(self) -> Listener:
        """Make what listens to Redis."""
        connect = self._settings.make_connection
        return Listener(connect, self._deliver, self._health, on_loss=self.interrupted)

    def use_once(self, key: str, seconds: float) -> bool:
        """Take note that something is used; ``True`` for the first time.

        :param key: what is used.
        :param seconds: for how long to remember it.
        :raises BrokerError: Redis cannot be reached.
        """
        return self._ask(*use(key, seconds)) is not None

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members into a channel, and drop others.

        :param channel: the channel.
        :param lease: what those that are put depend on.
        :param put: their data.
        :param dropped: who is dropped.
        :return: whether the lease is held.
        :raises BrokerError: Redis cannot be reached.
        """
        name = channel.encode()
        return self._call(
            lambda execute: presence.change(
                execute, name, lease, put, dropped, lease_key=str.encode, command="PUBLISH"
            )
        )

    def read_members(self, channel: str) -> Members:
        """Read the members of a channel.

        :param channel: the channel.
        :raises BrokerError: Redis cannot be reached.
        """
        name = channel.encode()
        return self._call(lambda execute: presence.read(execute, name, lease_key=str.encode))

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str] | None:
        """Hold a lease, for all channels.

        :param lease: the lease.
        :param seconds: for how long.
        :param channels: ignored.
        :return: ``None`` if it was not held before.
        :raises BrokerError: Redis cannot be reached.
        """
        key = lease.name.encode()
        was_held = self._call(lambda execute: presence.renew(execute, key, lease, seconds))
        return () if was_held else None

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members whose leases are lost.

        :param leases: those that have members, by channel.
        :raises BrokerError: Redis cannot be reached.
        """
        # Most of the time none is lost: one command for all channels.
        known = {name for names in leases.values() if names is not None for name in names}
        lost = self._call(lambda execute: presence.find_lost(execute, known, lease_key=str.encode))
        for channel, names in leases.items():
            gone = None if names is None else lost.intersection(names)
            if gone is None or gone:
                self._expire(channel.encode(), gone)

    def _expire(self, channel: bytes, leases: Collection[str] | None) -> None:
        self._call(
            lambda execute: presence.expire(
                execute, channel, leases, lease_key=str.encode, command="PUBLISH"
            )
        )

    def channels(self, prefix: str) -> dict[str, int]:
        """Ask Redis for the channels that have subscribers.

        :param prefix: how their names begin.
        :return: the numbers of processes, by channel.
        :raises BrokerError: Redis cannot be reached.
        """
        names = self._ask("PUBSUB CHANNELS", escape(prefix) + b"*")
        if not names:
            return {}
        return {
            decode(name): number for name, number in self._ask("PUBSUB NUMSUB", *names) if number
        }

    def close(self) -> None:
        """Disconnect, and end the listener's thread."""
        super().close()
        if self._client is not None:
            self._client.give_up()


def use(key: str, seconds: float) -> tuple[str | bytes, ...]:
    """Return the command that takes note that something is used, and answers for the first time."""
    return "SET", key.encode(), b"", "NX", "PX", str(max(1, math.ceil(seconds * 1000)))


def escape(prefix: str) -> bytes:
    """Escape a prefix for use in a Redis pattern."""
    return "".join(f"\\{char}" if char in "\\*?[]^" else char for char in prefix).encode()


def decode(name: bytes) -> str:
    """Decode the name of a channel, which may be another program's."""
    return name.decode(errors="replace")
