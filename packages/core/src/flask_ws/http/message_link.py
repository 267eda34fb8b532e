"""A connection whose server frames messages itself, and what runs on it: handlers of each kind.

There is no socket and there are no frames here; everything else is the same.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, cast

from ..connection.message_connection import MessageConnection
from ..connection.threaded_connection import ThreadedConnection
from ..loop.arrivals import arrivals
from ..loop.asyncio_loop import AsyncioLoop, asyncio_primitives
from ..loop.reactor import Reactor, reactor_for_messages
from ..loop.server_loop import server_loop
from .async_link import AsyncLink
from .head import Headers, app_headers
from .link import Link

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..protocol.messages import ServerMessages
    from .upgrade import Upgrade

__all__ = ["AsyncMessageLink", "MessageLink"]


class MessageLink(Link):
    """The link of a blocking handler, or of an event view."""

    __slots__ = ()

    connection: ThreadedConnection  # type: ignore[assignment]

    def _find_reactor(self, workers: int) -> Reactor:
        return reactor_for_messages(workers)

    def _make_connection(self, environ: WSGIEnvironment) -> Any:
        server = messages_of(self._upgrade)
        connection = ThreadedConnection(
            server,
            ringer=server_loop(server.loop).ringer,
            **options_of(self._upgrade),
            label=self._make_label(environ),
        )
        if self._on_reactor:
            connection.when_arrived = arrivals.tell
        return connection

    def _begin(self, headers: Headers, head: bytes, early: bytes, size: int) -> None:
        begin(self._upgrade, self.connection, headers, head, early, size)


class AsyncMessageLink(AsyncLink):
    """The link of an async handler, which runs on the server's loop."""

    __slots__ = ()

    connection: MessageConnection

    def _find_loop(self) -> AsyncioLoop:
        return server_loop(messages_of(self._upgrade).loop)

    def _take(self) -> None:
        self._owned = True

    def _make_connection(self, environ: WSGIEnvironment) -> MessageConnection:  # type: ignore[override]
        server = messages_of(self._upgrade)
        return MessageConnection(
            server, **options_of(self._upgrade), label=self._make_label(environ)
        )

    def _begin(self, headers: Headers, head: bytes, early: bytes, size: int) -> None:
        begin(self._upgrade, self.connection, headers, head, early, size)

    def close(self) -> None:
        """Give back what is held for a connection that the loop has not got."""
        if self._owned and hasattr(self, "connection"):
            self.connection.lose("the handler could not be started")
            self.connection.release()
        super().close()


def messages_of(upgrade: Upgrade) -> ServerMessages:
    """Return the server's side of a connection."""
    return cast("ServerMessages", upgrade.server_socket.messages)


def options_of(upgrade: Upgrade) -> dict[str, Any]:
    """Return the arguments of a connection, but for its label."""
    options, loop = upgrade.options, server_loop(messages_of(upgrade).loop)
    return {
        "max_message_size": options.max_message_size,
        "home": loop.home,
        "dispatcher": loop.dispatcher,
        "concurrency": asyncio_primitives,
        "close_timeout": options.close_timeout,
        # Bytes alone are limited: a server that is not asked for more cannot tell of the end.
        "max_queue": sys.maxsize,
        "max_queue_bytes": options.max_queue_bytes,
        "max_outbox": options.max_outbox,
    }


def begin(
    upgrade: Upgrade,
    connection: MessageConnection,
    headers: Headers,
    _head: bytes,
    early: bytes,
    size: int,
) -> None:
    """Have the server answer the handshake, by its own 101, and serve the connection."""
    connection.begin(b"", early, size)
    serve = functools.partial(connection.serve, upgrade.handshake.subprotocol, app_headers(headers))
    messages_of(upgrade).begin(serve)
