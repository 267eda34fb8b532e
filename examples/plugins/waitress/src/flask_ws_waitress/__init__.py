"""flask-ws on Waitress."""

from __future__ import annotations

import functools
import select
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_ws import ServerSocket, hookimpl

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]

#: Seconds that Waitress's loop may take to look at a connection, once it is woken.
LOOP_SECONDS = 5.0


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from the channel, whose method Waitress puts into the environ."""
    method = environ.get("waitress.client_disconnected")
    if method is None:
        return None
    channel: Any = method.__self__
    return ServerSocket(
        channel.socket,
        read_ahead=functools.partial(take_read_ahead, channel),
        # A task has one of a few threads: four, as a rule.
        detach=True,
        is_stopping=IsStopping(channel.server.task_dispatcher),
    )


def take_read_ahead(channel: Any) -> bytes:
    """Take what the channel has read of the next request, as it thinks.

    :raises RuntimeError: it is no longer there as it was read.
    """
    stop_reading(channel)
    flush(channel)
    # Held by the loop from the end of the request's head to the end of what it has read.
    with channel.requests_lock:
        request, channel.request = channel.request, None
        if len(channel.requests) > 1:
            # Frames with an empty line in them, once in billions: parsed as a request, and gone.
            raise RuntimeError("Waitress took the first frames for a request.")
    return b"" if request is None else bytes(request.header_plus)


def stop_reading(channel: Any) -> None:
    """Keep the loop from reading, which it does during a request if it is to look ahead."""
    if not channel.adj.channel_request_lookahead:
        return
    asked = threading.Event()

    def readable() -> bool:
        asked.set()
        return False

    channel.readable = readable
    channel.server.pull_trigger()
    # While it asks, it does not read; and from then on it will not.
    asked.wait(LOOP_SECONDS)


def flush(channel: Any) -> None:
    """Send what is left of the response before: the client may have sent both requests at once."""
    while channel.connected and channel.total_outbufs_len:
        with channel.outbuf_lock:
            channel._flush_some(do_close=False)
        if channel.total_outbufs_len:
            select.select([], [channel.socket], [], 1.0)


# Equal for all connections of one server.
@dataclass(frozen=True)
class IsStopping:
    """Asks the dispatcher whether its threads are told to end."""

    dispatcher: Any

    def __call__(self) -> bool:
        return self.dispatcher.stop_count > 0 or not self.dispatcher.threads
