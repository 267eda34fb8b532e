"""Event views: a class whose methods are called for what happens on a connection."""

from __future__ import annotations

from typing import Any, ClassVar

from .async_websocket import AsyncWebSocket
from .websocket import WebSocket

__all__ = ["AsyncWebSocketView", "WebSocketView"]

CALLED = ("on_open", "on_message", "on_close")


class WebSocketView:
    """A WebSocket route whose connections cost very little while they are idle.

    ::

        @sock.route("/chat/<room>")
        class Chat(WebSocketView):
            def on_open(self, ws, room):
                self.room = room

            def on_message(self, ws, message):
                ws.send(message)

    There is one instance for each connection. Its methods never overlap, and are called in
    order; each runs inside the request context, which is torn down after it, and ``g`` is empty
    in each. An exception in one closes the connection with 1011 and is reported as Flask reports
    a view's.

    Inside a method, ``ws.send()`` never waits: what a slow client does not read is queued, up to
    ``SOCK_MAX_OUTBOX`` bytes; beyond that the connection is closed with 1013. ``ws.close()``
    does not wait for the peer's answer. There is no ``ws.receive()``.
    """

    #: The methods that flask-ws calls.
    _flask_ws_calls: ClassVar[tuple[str, ...]] = CALLED

    # With *args as well, type checkers allow a subclass to name the URL's variables instead.
    def on_open(self, ws: WebSocket, *args: Any, **kwargs: Any) -> None:
        """Handle a new connection.

        :param ws: the connection.
        :param args: nothing.
        :param kwargs: the URL's variables, by name.
        """

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        """Receive a message.

        :param ws: the connection.
        :param message: ``str`` for a text message, ``bytes`` for a binary one.
        """

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """Handle the end of the connection; called exactly once, however it ended.

        :param ws: the connection, on which nothing can be sent any more.
        :param code: the close code: 1006 where the connection was lost, 1005 where the peer's
            close frame had none.
        :param reason: the reason that came with it.
        """


class AsyncWebSocketView:
    """An event view whose methods are async functions; they run on asyncio, as async handlers do.

    ::

        @sock.route("/feed")
        class Feed(AsyncWebSocketView):
            async def on_message(self, ws, message):
                await ws.send(await ask_upstream(message))

    All that :class:`WebSocketView` promises holds: the methods of one connection never overlap and
    are called in order, and those of others run meanwhile. A view that derives from
    :class:`WebSocketView` and has an async method runs in the same way; but type checkers know by
    this class what its methods are given.

    ``await ws.send()`` waits while the peer is slow to read. There is no ``ws.receive()``.
    """

    _flask_ws_calls: ClassVar[tuple[str, ...]] = CALLED

    # With *args as well, type checkers let a subclass name the URL's variables instead.
    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        """Take note of a new connection.

        :param ws: the connection.
        :param args: nothing.
        :param kwargs: the URL's variables, by name.
        """

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        """Receive a message.

        :param ws: the connection.
        :param message: ``str`` for a text message, ``bytes`` for a binary one.
        """

    async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
        """Take note of the connection's end; called exactly once, however it came.

        :param ws: the connection, on which nothing can be sent any more.
        :param code: the close code: 1006 where the connection was lost, 1005 where the peer's
            close frame had none.
        :param reason: the reason that came with it.
        """
