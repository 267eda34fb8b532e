"""What has happened on the routes of a process, in numbers.

A connection counts what it receives and sends for itself. That is added up when it has ended, or
when somebody asks: the path of a message has nothing more to do.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from .process import after_fork

__all__ = ["PING_UNANSWERED", "READS_TOO_SLOWLY", "RouteStats", "Stats", "Tallies", "Tally"]

#: How connections end that are counted apart: the code, and the reason.
READS_TOO_SLOWLY = (1013, "you read too slowly")
PING_UNANSWERED = (1006, "the peer did not answer a ping within ping_timeout")


@dataclasses.dataclass
class RouteStats:
    """The numbers of one route in this process, since it began."""

    #: The URL rule.
    rule: str = ""
    #: Connections that are open now, and all that were opened.
    open: int = 0
    opened: int = 0
    #: Connections that have ended, by close code.
    closed: dict[int, int] = dataclasses.field(default_factory=Counter)
    #: Handshakes that were refused, by status.
    refused: dict[int, int] = dataclasses.field(default_factory=Counter)
    #: Messages received and sent.
    messages_in: int = 0
    messages_out: int = 0
    #: Bytes received and sent, with those of frames and of the answer to the handshake.
    bytes_in: int = 0
    bytes_out: int = 0
    #: Bytes that wait for clients to read them.
    outbox: int = 0
    #: Connections that were closed because their client read too slowly (``SOCK_MAX_OUTBOX``).
    slow_readers: int = 0
    #: Connections that were lost because a ping had no answer (``SOCK_PING_TIMEOUT``).
    unanswered_pings: int = 0
    #: Seconds that methods of event views have run.
    busy_seconds: float = 0.0


@dataclasses.dataclass
class Stats:
    """The numbers of an app's WebSockets in this process: :meth:`Sock.stats`."""

    #: The process.
    pid: int
    #: WebSocket connections of the whole process, and handlers on threads of flask-ws's own.
    connections: int
    handler_threads: int
    #: Bytes that the process holds for its clients (``SOCK_MAX_BUFFERED``), where it counts them.
    buffered: int
    #: Channels that have subscribers here, and the connections that are subscribed.
    channels: int
    subscribers: int
    #: Messages published by this process; and how many it has sent to subscribers.
    publications: int
    deliveries: int
    #: The broker: ``"memory"``, ``"connected"`` or ``"away"``; ``"unused"`` before it is needed.
    broker: str
    #: The numbers of each route, by endpoint; of refusals for URLs without a route, by ``""``.
    routes: dict[str, RouteStats]
    #: Messages that subscribers were not sent, since they read too slowly (``overflow``).
    dropped: int = 0
    #: How often subscribers have missed messages that no history has (any more).
    gaps: int = 0
    #: Connections that are members of channels here (``ws.join()``), each for each channel.
    members: int = 0
    #: Whether it is closing all connections, because its server stops or by :meth:`Sock.drain`.
    draining: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return them as dictionaries, for JSON: what a view returns for ``flask ws stats``."""
        return dataclasses.asdict(self)


class Counts(Protocol):
    """What a connection counts for itself."""

    @property
    def close_code(self) -> int | None:
        """The close code."""

    @property
    def close_reason(self) -> str:
        """The reason that came with it."""

    @property
    def counts(self) -> tuple[int, int, int, int, int, float]:
        """Messages in and out, bytes in and out, bytes that wait, and seconds in callbacks."""


class Tally:
    """The numbers of one route in this process. Any thread may use it.

    :param sender: the app; what its signals are sent by.
    :param rule: the URL rule.
    """

    def __init__(self, sender: Any, rule: str) -> None:
        #: The app.
        self.sender = sender
        # Reentrant: a finalizer that ends a connection may run at any moment.
        self._lock = threading.RLock()
        self._open: dict[Counts, None] = {}
        self._past = RouteStats(rule)

    def add(self, connection: Counts) -> None:
        """Count a connection that was opened."""
        with self._lock:
            self._open[connection] = None
            self._past.opened += 1

    def end(self, connection: Counts) -> None:
        """Count a connection that has ended; only the first call does so."""
        with self._lock:
            if connection not in self._open:
                return
            del self._open[connection]
            past, code = self._past, connection.close_code or 0
            past.closed[code] = past.closed.get(code, 0) + 1
            how = code, connection.close_reason
            past.slow_readers += how == READS_TOO_SLOWLY
            past.unanswered_pings += how == PING_UNANSWERED
            add_counts(past, connection)
            past.outbox = 0

    def refuse(self, status: int) -> None:
        """Count a handshake that was refused."""
        with self._lock:
            self._past.refused[status] = self._past.refused.get(status, 0) + 1

    def read(self) -> RouteStats:
        """Return the numbers as they are now: no connection is missing, or counted twice."""
        with self._lock:
            past = self._past
            stats = dataclasses.replace(
                past, open=len(self._open), closed=dict(past.closed), refused=dict(past.refused)
            )
            for connection in self._open:
                add_counts(stats, connection)
        return stats


def add_counts(stats: RouteStats, connection: Counts) -> None:
    """Add what a connection has counted for itself."""
    messages_in, messages_out, bytes_in, bytes_out, outbox, busy_seconds = connection.counts
    stats.messages_in += messages_in
    stats.messages_out += messages_out
    stats.bytes_in += bytes_in
    stats.bytes_out += bytes_out
    stats.outbox += outbox
    stats.busy_seconds += busy_seconds


class Tallies:
    """The tallies of an app's routes, by endpoint; a child after a fork begins without any.

    :param sender: the app.
    """

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._tallies: dict[str, Tally] = {}
        after_fork(self.start_anew)

    def start_anew(self) -> None:
        """Begin without any."""
        self._tallies = {}

    def get(self, endpoint: str, find_rule: Callable[[], str]) -> Tally:
        """Return the tally of a route; of what has no route, for the endpoint ``""``.

        :param find_rule: finds its URL rule, the first time.
        """
        found = self._tallies.get(endpoint)
        if found is None:
            found = self._tallies.setdefault(endpoint, Tally(self._sender, find_rule()))
        return found

    def read(self) -> dict[str, RouteStats]:
        """Return the numbers of all routes that have had a handshake."""
        return {endpoint: tally.read() for endpoint, tally in sorted(self._tallies.items())}
