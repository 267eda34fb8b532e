"""Listener: the connection on which messages of a Redis arrive."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from redis.exceptions import RedisError, ResponseError

from flask_ws import BrokerHealth, BrokerListener, BrokerWish

__all__ = ["Listener"]

logger = logging.getLogger("flask_ws")

#: Messages that are read before changes are sent.
READ_AT_ONCE = 100

MESSAGES = (b"message", b"smessage")
PONGS = (b"pong", b"PONG")


class Listener(BrokerListener):
    """Listens to channels on one Redis, and reconnects by itself.

    :param connect: makes a connection of redis-py's.
    :param deliver: called for each message with its channel and payload.
    :param health: what is known of the Redis.
    :param sharded: whether the channels are a cluster's, which belong to one of its servers.
    :param on_misplaced: called with a channel whose messages are at another server of the
        cluster.
    :param on_loss: called when the connection was lost.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (RedisError, OSError)

    def __init__(
        self,
        connect: Callable[[], Any],
        deliver: Callable[[str, bytes], object],
        health: BrokerHealth,
        *,
        sharded: bool = False,
        on_misplaced: Callable[[str], object] | None = None,
        on_loss: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(health, on_loss)
        self._connect = connect
        self._deliver = deliver
        self._on_misplaced = on_misplaced
        self._subscribe, self._unsubscribe = b"SUBSCRIBE", b"UNSUBSCRIBE"
        if sharded:
            self._subscribe, self._unsubscribe = b"SSUBSCRIBE", b"SUNSUBSCRIBE"
        # What the thread alone uses.
        self._connection: Any = None
        self._sent: dict[str, BrokerWish] = {}
        self._unconfirmed: deque[tuple[bytes, str, BrokerWish | None]] = deque()

    def connect(self) -> int:
        """Connect to the server."""
        self._sent.clear()
        self._unconfirmed.clear()
        self._connection = connection = self._connect()
        connection.connect()
        self.interval = connection.health_check_interval or float("inf")
        self.answer = connection.socket_timeout or float("inf")
        fd: int = connection._sock.fileno()
        return fd

    def disconnect(self) -> None:
        """Close the connection; a child process that has inherited it leaves it open there."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def is_waiting(self) -> bool:
        """Tell whether something is not confirmed yet."""
        return bool(self._unconfirmed)

    def ping(self) -> None:
        """Ask the server whether it is there."""
        self._connection.send_command("PING", check_health=False)

    def send(self, changes: Sequence[tuple[str, BrokerWish | None]]) -> bool:
        """Tell the server what has changed; ``False`` if nothing has."""
        commands = []
        for channel, wish in changes:
            try:
                name = channel.encode()
            except UnicodeEncodeError as error:
                # The caller got an exception; here it must not affect the other channels.
                logger.error("Redis cannot subscribe to %r: %s.", channel, error.reason)
                if wish is not None:
                    wish.set()
                continue
            if wish is None:
                if self._sent.pop(channel, None) is None:
                    continue
                command = self._unsubscribe
            else:
                if self._sent.get(channel) is wish:
                    continue
                self._sent[channel] = wish
                command = self._subscribe
            # One command for each: a refusal is about one channel, and a cluster requires it.
            commands.append((command, name))
            self._unconfirmed.append((command, channel, wish))
        if commands:
            packed = self._connection.pack_commands(commands)
            self._connection.send_packed_command(packed, check_health=False)
        return bool(commands)

    def read(self) -> bool | None:
        """Read what has arrived; ``None`` if nothing has, and whether there may be more."""
        # TLS and redis-py may have buffered more than the socket shows.
        for number in range(READ_AT_ONCE):
            if not self._connection.can_read(timeout=0):
                return None if number == 0 else False
            self._read()
        return True

    def _read(self) -> None:
        try:
            response = self._connection.read_response()
        except ResponseError as error:
            self._refused(error)
            return
        # A list, except for the answer to a ping where nothing is subscribed to.
        kind = response[0] if isinstance(response, list) else response
        if kind in PONGS:
            self.pong()
        elif kind in MESSAGES:
            channel = response[1].decode()
            try:
                self._deliver(channel, response[2])
            except Exception:
                logger.exception("A message on %s could not be delivered.", channel)
        else:
            self._confirmed(kind.upper(), response[1].decode())

    def _confirmed(self, command: bytes, channel: str) -> None:
        if self._unconfirmed and self._unconfirmed[0][:2] == (command, channel):
            _, _, wish = self._unconfirmed.popleft()
            if wish is not None:
                wish.confirm()
        elif command == self._unsubscribe:
            # Not requested: the cluster has moved the channel to another server.
            self._misplaced(channel)

    def _refused(self, error: ResponseError) -> None:
        if not self._unconfirmed:
            raise error
        command, channel, wish = self._unconfirmed.popleft()
        if self._on_misplaced is not None and _is_about_place(error):
            self._misplaced(channel)
        else:
            logger.error(
                "%s refused %s %s: %s",
                self.health.name,
                command.decode(),
                channel,
                error,
            )
        if wish is not None:
            wish.set()

    def _misplaced(self, channel: str) -> None:
        wish = self._sent.pop(channel, None)
        if wish is not None:
            wish.is_confirmed = False
        if self._on_misplaced is not None:
            self._on_misplaced(channel)


def _is_about_place(error: ResponseError) -> bool:
    """Tell whether a cluster's server says that another one has the channel."""
    # Its code is the error's class in some versions of redis-py, and in others part of the text.
    return type(error).__name__ in ("MovedError", "ClusterDownError", "TryAgainError") or str(
        error
    ).startswith(("MOVED ", "CLUSTERDOWN ", "TRYAGAIN "))
