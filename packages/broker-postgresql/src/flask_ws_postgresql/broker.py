"""PostgresBroker: publications through one PostgreSQL."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from flask_ws import BrokerError, History, ListeningBroker, Position, Retention

from . import history
from .link import Link, RefusedError
from .listener import Listener
from .pool import Pool
from .settings import Settings

__all__ = ["PostgresBroker"]

logger = logging.getLogger("flask_ws")

T = TypeVar("T")

#: Seconds from one deletion of what is too old to the next; of messages, and of channels.
PRUNE_MESSAGES_SECONDS = 60.0
PRUNE_CHANNELS_SECONDS = 3600.0
#: Seconds for which the same refusal is not logged again.
COMPLAINT_SECONDS = 60.0

NO_TABLES = (
    "The tables of histories are missing: add create_tables=true to SOCK_BROKER_URL, or make them "
    "as flask-ws's page on PostgreSQL says."
)

#: Not the app's generator, which it may have seeded.
chance = random.SystemRandom()


class PostgresBroker(ListeningBroker):
    """A broker on one PostgreSQL: a few connections to publish on, and one to listen on.

    :param settings: how to reach it.
    """

    keeps_history = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._complained: dict[str, float] = {}
        now = time.monotonic()
        # When each is due; not in all processes at once.
        self._pruning = {
            history.prune_messages: now + PRUNE_MESSAGES_SECONDS * chance.random(),
            history.prune_channels: now + PRUNE_CHANNELS_SECONDS * chance.random(),
        }

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

        def keep(link: Link) -> Position:
            position = history.keep(link, channel, payload, retention)
            self._prune(link)
            return position

        return self._call(self._with_tables(keep))

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
            self._with_tables(lambda link: history.read(link, channel, retention, since))
        )

    def _with_tables(self, function: Callable[[Link], T]) -> Callable[[Link], T]:
        """Make the tables if they are missing, and if that is wanted."""

        def call(link: Link) -> T:
            try:
                return function(link)
            except RefusedError as error:
                if error.code != history.UNDEFINED_TABLE:
                    raise
                if not self._settings.create_tables:
                    raise RefusedError(error.code, NO_TABLES) from None
            link.run(history.CREATE)
            return function(link)

        return call

    def _prune(self, link: Link) -> None:
        """Delete what is too old, from time to time."""
        now = time.monotonic()
        for prune, due in self._pruning.items():
            if now < due:
                continue
            is_messages = prune is history.prune_messages
            pause = PRUNE_MESSAGES_SECONDS if is_messages else PRUNE_CHANNELS_SECONDS
            self._pruning[prune] = now + pause * chance.uniform(0.5, 1.5)
            # What it is called after has succeeded.
            with contextlib.suppress(RefusedError, OSError):
                if prune(link):
                    self._pruning[prune] = now

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
