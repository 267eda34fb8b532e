"""Whether a process has room for one more connection; and the refusal where it has not.

A refusal says how to raise the limit that was reached, in the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from werkzeug.exceptions import ServiceUnavailable

from ..loop.monitor import monitor_for
from ..system import descriptors_left

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

#: Seconds after which a client that found the server full may try again.
RETRY_AFTER = 5
#: The part of the process's file descriptors that is not for WebSockets, and the most that may be:
#: with none left, the server itself cannot accept a connection, and some end the process then.
RESERVED = 1 / 8
MOST_RESERVED = 1024


def check_room(server_socket: ServerSocket, options: Options) -> None:
    """Check that there is room for a connection.

    :param server_socket: the server's socket for it.
    :param options: the route's options.
    :raises ServiceUnavailable: there is not.
    """
    if len(monitor_for(server_socket.concurrency)) >= options.max_connections:
        raise too_many_connections(options)
    left, limit = descriptors_left(server_socket.sock)
    if limit is not None and left < min(limit * RESERVED, MOST_RESERVED):
        raise no_descriptors(limit)


def too_many_connections(options: Options) -> ServiceUnavailable:
    """Make the refusal of a process that holds as many connections as it may."""
    return ServiceUnavailable(
        f"This process has {options.max_connections} WebSocket connections (SOCK_MAX_CONNECTIONS).",
        retry_after=RETRY_AFTER,
    )


def too_many_threads(options: Options) -> ServiceUnavailable:
    """Make the refusal of a process that runs as many handlers as it may."""
    return ServiceUnavailable(
        f"This process runs {options.max_threads} WebSocket handlers (SOCK_MAX_THREADS).",
        retry_after=RETRY_AFTER,
    )


def no_threads() -> ServiceUnavailable:
    """Make the refusal of a process that the system gives no more threads."""
    return ServiceUnavailable(
        "The system has no more threads for this process (ulimit -u, or the pids limit of its "
        "container).",
        retry_after=RETRY_AFTER,
    )


def no_descriptors(limit: int | None = None) -> ServiceUnavailable:
    """Make the refusal of a process that has few file descriptors left, or none."""
    number = "" if limit is None else f"{limit} "
    return ServiceUnavailable(
        f"Of the {number}file descriptors that this process may have (ulimit -n), those that are "
        "left are for the server and the app.",
        retry_after=RETRY_AFTER,
    )
