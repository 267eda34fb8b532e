"""What the monitor knows of one connection: when to ping it, and when its peer is dead."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from ..connection.async_connection import AnyConnection
from ..protocol.close_codes import POLICY_VIOLATION
from ..tally import PING_UNANSWERED

__all__ = ["Watch"]

logger = logging.getLogger("flask_ws")


#: Seconds after which a peer that has not answered is checked again, while a thread reads.
SECOND_LOOK = 0.5


class Watch:
    """What the monitor knows about one connection.

    :param connection: the connection.
    :param ping_interval: seconds without data after which a ping is sent; ``None`` for no pings.
    :param ping_timeout: seconds until a ping without any answer means that the peer is dead.
    :param is_stopping: tells whether the connection's server wants to stop.
    :param close_timeout: seconds that the closing handshake may take when the server stops.
    :param stop_timeout: seconds that the process, at its end, waits for a running handler.
    :param message_timeout: seconds that a message may take to arrive; ``None`` for any time.
    :param has_successor: tells whether others answer in the place of a server that stops; ``None``
        if that cannot be told.
    """

    __slots__ = (
        "__weakref__",
        "active",
        "begun_at",
        "connection",
        "goodbye_until",
        "has_plan",
        "has_successor",
        "interval",
        "is_stopping",
        "last_look",
        "leaving_since",
        "message_timeout",
        "messages",
        "pinged_at",
        "quiet_since",
        "received",
        "sent",
        "stop_timeout",
        "timeout",
        "wait_for_goodbye",
    )

    def __init__(
        self,
        connection: AnyConnection,
        *,
        ping_interval: float | None,
        ping_timeout: float | None,
        close_timeout: float,
        is_stopping: Callable[[], bool],
        stop_timeout: float = 0.0,
        message_timeout: float | None = None,
        has_successor: Callable[[], bool | None] | None = None,
    ) -> None:
        self.connection = connection
        self.stop_timeout = stop_timeout
        self.interval = ping_interval
        self.timeout = ping_timeout
        self.wait_for_goodbye = close_timeout
        self.is_stopping = is_stopping
        self.has_successor = has_successor
        self.active = True
        self.last_look = False
        self.received = connection.bytes_received
        self.sent = 0
        self.quiet_since = time.monotonic()
        self.pinged_at: float | None = None
        self.goodbye_until: float | None = None
        #: Since when it is known that it is to end.
        self.leaving_since = math.inf
        #: Whether it is decided when its client is told goodbye.
        self.has_plan = False
        self.message_timeout = message_timeout
        # When a message was first seen to have begun, and how many had been received before it.
        self.begun_at: float | None = None
        self.messages = 0

    def idle_since(self, now: float) -> float:
        """Return since when nothing has come, as far as is known."""
        return self.quiet_since if self.connection.bytes_received == self.received else now

    def intervals(self) -> list[float]:
        """Return the intervals and timeouts, in seconds, that :meth:`check` applies."""
        times = [] if self.interval is None else [self.interval, self.timeout]
        return [seconds for seconds in (*times, self.message_timeout) if seconds is not None]

    def check(self, now: float) -> float:
        """Do what is due; return when to check again."""
        return min(self._check_life(now), self._check_message(now))

    def _check_message(self, now: float) -> float:
        """Fail a connection whose peer takes too long for a message, even if bytes arrive."""
        timeout = self.message_timeout
        if timeout is None:
            return math.inf
        receiver = self.connection.receiver
        if not receiver.is_mid_message:
            self.begun_at = None
            return now + timeout / 4
        if self.begun_at is None or receiver.messages_received != self.messages:
            self.begun_at = now
            self.messages = receiver.messages_received
        elif now - self.begun_at >= timeout:
            logger.warning(
                "%s: a message was not finished within %g s (SOCK_MESSAGE_TIMEOUT)",
                self.connection.label,
                timeout,
            )
            receiver.fail(POLICY_VIOLATION, f"a message was not finished within {timeout:g} s")
        return self.begun_at + timeout

    def _check_life(self, now: float) -> float:
        """Ping a quiet peer, and end the connection of a dead one."""
        if self.interval is None:
            return math.inf
        connection = self.connection
        received = connection.bytes_received
        if received != self.received or self.pinged_at is None:
            self.last_look = False
        if received != self.received:
            self.received = received
            self.quiet_since = now
            self.pinged_at = None
        elif self.pinged_at is None:
            if now - self.quiet_since >= self.interval:
                connection.post_ping()
                self.pinged_at = now
                self.sent = connection.bytes_sent
        elif self.timeout is not None and now - self.pinged_at >= self.timeout:
            # A ping may wait behind a long message. While bytes of that go out, the peer is alive.
            sent = connection.bytes_sent
            if connection.has_been_heard:
                self.quiet_since = now
                self.pinged_at = None
            elif connection.is_sending and sent != self.sent:
                self.pinged_at = now
                self.sent = sent
            elif connection.is_reading and not self.last_look:
                # The thread that reads may have received bytes that it has not counted yet.
                self.last_look = True
                return now + SECOND_LOOK
            else:
                connection.lose(PING_UNANSWERED[1])
        if self.pinged_at is not None and self.timeout is not None:
            return self.pinged_at + self.timeout
        return min(now + self.interval / 4, max(self.quiet_since + self.interval, now + 0.001))
