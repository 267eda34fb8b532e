"""flask-ws on Waitress."""

from __future__ import annotations

import functools
import select
import selectors
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_ws import NoSocket, ServerSocket, hookimpl

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]

#: Seconds that Waitress's loop may take to look at a connection, once it is woken.
LOOP_SECONDS = 5.0

#: From this descriptor on, select() raises ValueError, which ends Waitress's event loop.
FD_SETSIZE = 1024
#: File descriptors that a process uses for other things than connections.
OTHER_FDS = 50


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from the channel, one of whose methods is in the environ."""
    method = environ.get("waitress.client_disconnected")
    if method is None:
        return None
    channel: Any = method.__self__
    check_number(channel)
    return ServerSocket(
        channel.socket,
        read_ahead=functools.partial(take_read_ahead, channel),
        # A task occupies one of a few threads: four by default.
        detach=True,
        is_stopping=IsStopping(channel.server.task_dispatcher),
        on_new_fileno=functools.partial(renumber, channel),
    )


def check_number(channel: Any) -> None:
    """Check that Waitress's loop can watch the connections that it will accept after this one.

    A WebSocket has a descriptor of its own, so that those of newer connections have higher numbers.

    :raises NoSocket: it cannot.
    """
    # Windows has no poll(), and its select() has no such limit.
    if channel.adj.asyncore_use_poll or not hasattr(select, "poll"):
        return
    if channel.socket.fileno() >= FD_SETSIZE - OTHER_FDS - channel.adj.connection_limit:
        raise NoSocket(
            "Waitress's loop can hold no more connections: start it with --asyncore-use-poll, or "
            "asyncore_use_poll=True."
        )


def take_read_ahead(channel: Any) -> bytes:
    """Take the bytes that the channel has read as the start of a next request.

    :raises RuntimeError: they were parsed, and are no longer available as they were read.
    """
    stop_reading(channel)
    flush(channel)
    # The loop holds this lock from the end of the head until it has handled all it has read.
    with channel.requests_lock:
        request, channel.request = channel.request, None
        current, *further = channel.requests
        if not further and (request is None or not request.headers_finished):
            return b"" if request is None else bytes(request.header_plus)
        # The first frames contained an empty line (very rare) and were parsed as a request: their
        # bytes are lost. Or they are a request, which must not run: a proxy in front took it
        # for a part of the WebSocket (request smuggling).
        channel.requests = [current]
        # So that Waitress ends the connection after its response.
        current.headers["CONNECTION"] = "close"
    for each in (*further, request):
        if each is not None:
            each.close()
    raise RuntimeError("Waitress took the first frames for a request.")


def stop_reading(channel: Any) -> None:
    """Keep the loop from reading, which it does during a request with lookahead."""
    if not channel.adj.channel_request_lookahead:
        return
    asked = threading.Event()

    def readable() -> bool:
        asked.set()
        return False

    channel.readable = readable
    channel.server.pull_trigger()
    # While the loop calls readable(), it does not read; and after that it will not.
    asked.wait(LOOP_SECONDS)


def renumber(channel: Any) -> None:
    """Register the channel in the loop under the current descriptor of its socket."""
    done = threading.Event()

    def in_the_loop() -> None:
        channel.del_channel()
        channel._fileno = channel.socket.fileno()
        channel.add_channel()
        done.set()

    channel.server.trigger.pull_trigger(in_the_loop)
    done.wait(LOOP_SECONDS)


def flush(channel: Any) -> None:
    """Send the rest of the previous response: the client may have pipelined both requests."""
    writable = False
    while channel.connected and (left := channel.total_outbufs_len):
        with channel.outbuf_lock:
            channel._flush_some(do_close=False)
        if writable and channel.total_outbufs_len == left:
            # Nothing was sent: the client is gone, which Waitress does not report.
            return
        # Not select(), for which the descriptor may be too high.
        with selectors.DefaultSelector() as selector:
            selector.register(channel.socket, selectors.EVENT_WRITE)
            writable = bool(selector.select(1.0))


# A dataclass, so that it is equal for all connections of one server.
@dataclass(frozen=True)
class IsStopping:
    """Tells whether the dispatcher's threads were told to end."""

    dispatcher: Any

    def __call__(self) -> bool:
        return self.dispatcher.stop_count > 0 or not self.dispatcher.threads
