"""PostgresBroker: publications through one PostgreSQL."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from flask_ws import BrokerError, History, Lease, ListeningBroker, Members, Position, Retention

from . import history, presence, survey, used
from .link import Link, RefusedError
from .listener import Listener
from .pool import Pool
from .settings import Settings
from .tables import Tables

__all__ = ["PostgresBroker"]

logger = logging.getLogger("flask_ws")

T = TypeVar("T")

#: Seconds for which the same refusal is not logged again.
COMPLAINT_SECONDS = 60.0


class PostgresBroker(ListeningBroker):
    """A broker on one PostgreSQL: a few connections to publish on, and one to listen on.

    :param settings: how to reach it.
    """

    keeps_history = True
    uses_once = True
    tracks_presence = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._complained: dict[str, float] = {}
        self._tables = Tables(is_maker=settings.create_tables)

    def start(self, deliver: Callable[..., object]) -> None:
        """Get ready; connections are made when they are needed."""
        settings = self._settings
        self._deliver = deliver
        self._health = self.make_health(settings.name)
        self._pool = Pool(functools.partial(Link, settings), settings.max_connections)

    def publish(self, channel: str, payload: bytes) -> None:
        """Publish, once: what fails is not tried again, since it might arrive twice.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        self._call(lambda link: history.publish(link, channel, payload))

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Publish a message, and keep it.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :param retention: how much is kept.
        :return: its position.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        return self._call(
            self._tables.using(
                lambda link: history.keep(link, channel, payload, retention),
                *("flask_ws_messages", "flask_ws_channels"),
            )
        )

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Read what is kept, and the position.

        :param channel: the channel.
        :param retention: how much is kept.
        :param since: what came before it is left out.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        return self._call(
            self._tables.using(lambda link: history.read(link, channel, retention, since))
        )

    def use_once(self, key: str, seconds: float) -> bool:
        """Take note that something is used; ``True`` for the first time.

        :param key: what is used.
        :param seconds: for how long to remember it.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        return self._call(
            self._tables.using(lambda link: used.use(link, key, seconds), "flask_ws_used")
        )

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members of this process into a channel, and drop others.

        :param channel: the channel.
        :param lease: that of this process.
        :param put: the data of members, by their ids.
        :param dropped: the ids of members to drop.
        :return: whether the lease is held.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        return self._call(
            self._tables.using(
                lambda link: presence.change(link, channel, lease, put, dropped),
                *("flask_ws_members", "flask_ws_channels"),
            )
        )

    def read_members(self, channel: str) -> Members:
        """Read the members, and the position.

        :param channel: the channel.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        return self._call(self._tables.using(lambda link: presence.read(link, channel)))

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str] | None:
        """Hold a lease from now on, in all channels.

        :param lease: that of this process.
        :param seconds: for how long.
        :param channels: is of no interest here.
        :return: ``None`` if it was not held before.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        was_held = self._call(
            self._tables.using(lambda link: presence.renew(link, lease, seconds), "flask_ws_leases")
        )
        return () if was_held else None

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members whose leases nobody holds any more.

        :param leases: the names of leases, by channel; ``None`` for all.
        :raises BrokerError: PostgreSQL cannot be reached.
        """
        for channel, names in leases.items():
            self._call(
                self._tables.using(
                    lambda link, channel=channel, names=names: (  # type: ignore[misc]
                        presence.expire(link, channel, names)
                    )
                )
            )

    def channels(self, prefix: str) -> dict[str, int]:
        """Ask the processes that listen for their channels.

        :param prefix: how their names begin.
        :return: the numbers of processes, by channel.
        :raises BrokerError: PostgreSQL cannot be reached, or one of the processes does not answer.
        """
        seconds = self._settings.answer_timeout
        return self._call(lambda link: survey.ask(link, prefix, seconds))

    def _call(self, function: Callable[[Link], T]) -> T:
        health = self._health
        attempt = health.check()
        try:
            with self._pool.take() as link:
                answer = function(link)
        except RefusedError as error:
            # It has answered.
            health.succeed()
            self._complain(error)
            raise BrokerError(f"{health.name}: {error}") from error
        except OSError as error:
            health.fail(error, attempt)
            raise BrokerError(f"{health.name}: {error}") from error
        health.succeed()
        return answer

    def _complain(self, error: RefusedError) -> None:
        now = time.monotonic()
        if now >= self._complained.get(error.code, now):
            self._complained[error.code] = now + COMPLAINT_SECONDS
            logger.error("%s: %s", self._health.name, error)

    def make_listener(self) -> Listener:
        """Make what listens to PostgreSQL."""
        return Listener(self._settings, self._deliver, self._health, self.interrupted)

    def close(self) -> None:
        """Disconnect, and end the listener's thread."""
        super().close()
        self._pool.close()
