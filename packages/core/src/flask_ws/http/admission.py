"""Whether a process has room for one more connection; and the refusal where it has not.

The log says which limit was reached, and how to raise it.
"""

from __future__ import annotations

import time
from random import SystemRandom
from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable

from ..loop.drain import drain, handshake_rate
from ..loop.monitor import monitor_for
from ..system import count_descriptors, descriptor_limit
from ..wording import counted
from .refusal import Refusal

if TYPE_CHECKING:
    from ..options import Options
    from ..plugin.hookspecs import ServerSocket

__all__ = [
    "check_room",
    "no_descriptors",
    "no_threads",
    "too_many_connections",
    "too_many_threads",
]

#: Not the app's generator, which it may have seeded.
chance = SystemRandom()
#: Seconds after which clients that found the server full may try again, on average.
RETRY_AFTER = 5
#: The part of the process's file descriptors that WebSockets leave free, and its maximum: with none
#: left, the server itself cannot accept a connection, and some servers end the process then.
RESERVED = 1 / 8
MOST_RESERVED = 1024
#: The descriptors are counted again when this part of them was used, or after so many seconds.
STEP = 1 / 64
PERIOD = 1.0


class Descriptors:
    """How many file descriptors a process has left, counted now and then only."""

    def __init__(self) -> None:
        self._used: int | None = 0
        # Handshakes since the last count, taken as still open; and when to count again.
        self._opened = 0
        self._due = 0.0

    def has_room(self, limit: int) -> bool:
        """Tell whether one more may be used for a connection, and count it as used."""
        now = time.monotonic()
        if now >= self._due or self._opened >= limit * STEP:
            self._used, self._opened, self._due = count_descriptors(), 0, now + PERIOD
        self._opened += 1
        reserve = min(limit * RESERVED, MOST_RESERVED)
        return self._used is not None and self._used + self._opened <= limit - reserve


descriptors = Descriptors()


def check_room(server_socket: ServerSocket, options: Options) -> None:
    """Check that there is room for a connection.

    :param server_socket: the server's socket for it.
    :param options: the route's options.
    :raises ServiceUnavailable: there is not.
    """
    monitor = monitor_for(server_socket.concurrency)
    if drain.begun or (options.drain and monitor.asks(server_socket.is_stopping)):
        raise Full("This process drains, and is about to stop (SOCK_DRAIN).")
    if len(monitor) >= options.max_connections:
        raise too_many_connections(options)
    limit = descriptor_limit()
    if limit is not None and not descriptors.has_room(limit):
        raise no_descriptors(limit)
    if not handshake_rate.admit(options.handshake_rate):
        raise Full(
            f"There are more than {options.handshake_rate:g} handshakes a second "
            "(SOCK_HANDSHAKE_RATE)."
        )


class Full(Refusal, ServiceUnavailable):
    """503: the process has no room for one more.

    :param why: which limit was reached; for the log only, clients are not told.
    """

    description = "The server has no room for another WebSocket now. Try again later."

    def __init__(self, why: str) -> None:
        # Not the same for all: else they come back together.
        super().__init__(why, retry_after=chance.randint(1, 2 * RETRY_AFTER - 1))


def too_many_connections(options: Options) -> ServiceUnavailable:
    """Make the refusal of a process that holds as many connections as it may."""
    return Full(
        f"This process has {counted(options.max_connections, 'WebSocket connection')} "
        "(SOCK_MAX_CONNECTIONS)."
    )


def too_many_threads(options: Options) -> ServiceUnavailable:
    """Make the refusal of a process that runs as many handlers as it may."""
    return Full(
        f"This process runs {counted(options.max_threads, 'WebSocket handler')} (SOCK_MAX_THREADS)."
    )


def no_threads() -> ServiceUnavailable:
    """Make the refusal of a process that the system gives no more threads."""
    return Full(
        "The system has no more threads for this process (ulimit -u, or the pids limit of its "
        "container)."
    )


def no_descriptors(limit: int | None = None) -> ServiceUnavailable:
    """Make the refusal of a process that has few file descriptors left, or none."""
    number = "" if limit is None else f"{limit} "
    return Full(
        f"Of the {number}file descriptors that this process may have (ulimit -n), those that are "
        "left are for the server and the app."
    )
