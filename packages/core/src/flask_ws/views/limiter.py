"""What happens to a client that sends faster than it may: slow it down, drop, or close."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from ..connection.async_connection import AnyConnection, AsyncConnection
from ..exceptions import ConnectionClosed
from ..protocol.close_codes import POLICY_VIOLATION
from ..rate import Bucket
from ..sparing import warn_sparingly
from .async_websocket import AsyncWebSocket
from .websocket import WebSocket

__all__ = ["LimitedAsyncWebSocket", "LimitedWebSocket", "Limiter", "receive_limited"]

#: Seconds after which a wait checks whether the connection is still open.
LOOK = 0.25


class Limiter:
    """Limits what a connection receives.

    A client is slowed down by waiting before the next message is received: so no message is lost
    where an exception interrupts the wait. Meanwhile ``SOCK_MAX_QUEUE`` messages are queued, and
    the others wait in the network (TCP backpressure).

    :param bucket: what the client may send, on all its connections.
    :param action: what to do with more: ``"slow"``, ``"drop"`` or ``"close"``.
    """

    __slots__ = ("_action", "_bucket")

    def __init__(self, bucket: Bucket, action: str) -> None:
        self._bucket = bucket
        self._action = action

    def shortage(self) -> float:
        """Return for how many seconds to wait before the next message is received."""
        return self._bucket.shortage() if self._action == "slow" else 0.0

    def wait(self, connection: AnyConnection, until: float | None = None) -> bool:
        """Wait before the next message is received.

        :param until: the time, of :func:`time.monotonic`, when the wait ends.
        :return: whether it may be received now.
        """
        while (left := self.shortage()) > 0 and connection.connected:
            if until is not None:
                left = min(left, until - time.monotonic())
                if left <= 0:
                    return False
            connection.concurrency.event().wait(min(left, LOOK))
        return True

    async def wait_async(self, connection: AsyncConnection, until: float | None) -> bool:
        """Do the same in a coroutine."""
        while (left := self.shortage()) > 0 and connection.connected:
            if until is not None:
                left = min(left, until - time.monotonic())
                if left <= 0:
                    return False
            await asyncio.sleep(min(left, LOOK))
        return True

    def admit(self, connection: AnyConnection) -> bool:
        """Admit a message that was received; ``False`` if it is to be discarded."""
        if self._action == "slow":
            self._bucket.take_anyway()
            return True
        if self._bucket.take():
            return True
        label = connection.label
        done = "it is closed with 1008" if self._action == "close" else "messages are dropped"
        warn_sparingly(
            ("rate", label.endpoint), "%s: the client sends too fast (SOCK_RATE): %s", label, done
        )
        if self._action == "close":
            connection.receiver.fail(POLICY_VIOLATION, "too many messages")
        return False


class LimitedWebSocket(WebSocket):
    """The connection of a handler on a route with a limit."""

    __slots__ = ("_limiter",)

    def _limit(self, limiter: Limiter) -> None:
        """Set the limit."""
        self._limiter = limiter

    def receive(self, timeout: float | None = None) -> Any:
        """Receive the next message that the limit admits, as :meth:`WebSocket.receive`."""
        limiter, connection = self._limiter, self._connection
        until = None if timeout is None else time.monotonic() + timeout
        while limiter.wait(connection, until):
            if until is not None:
                timeout = max(0.0, until - time.monotonic())
            message = super().receive(timeout)
            if message is None or limiter.admit(connection):
                return message
        return None

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive messages until the connection is closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield self.receive()


async def receive_limited(
    connection: AsyncConnection,
    limiter: Limiter,
    timeout: float | None = None,
    *,
    iterating: bool = False,
) -> Any:
    """Receive the next message that a limit admits, as :meth:`AsyncConnection.receive`."""
    until = None if timeout is None else time.monotonic() + timeout
    while await limiter.wait_async(connection, until):
        if until is not None:
            timeout = max(0.0, until - time.monotonic())
        message = await connection.receive(timeout, iterating=iterating)
        if message is None or limiter.admit(connection):
            return message
    return None


class LimitedAsyncWebSocket(AsyncWebSocket):
    """The connection of an async handler on a route with a limit."""

    __slots__ = ("_limiter",)

    def _limit(self, limiter: Limiter) -> None:
        """Set the limit."""
        self._limiter = limiter

    def receive(self, timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """Receive the next message that the limit admits, as :meth:`AsyncWebSocket.receive`."""
        return self._here("receive", receive_limited(self._connection, self._limiter, timeout))

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        """Receive the next message that the limit admits."""
        coroutine = receive_limited(self._connection, self._limiter, iterating=True)
        return self._here("receive", coroutine)
