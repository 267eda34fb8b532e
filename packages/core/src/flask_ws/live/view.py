"""ChannelView: one endpoint for many channels, which clients subscribe to and publish on."""

from __future__ import annotations

from typing import Any

from ..channels.wrapping import Wrapped
from ..connection.async_connection import AnyConnection
from ..views.advice import warn_once
from ..views.async_websocket import AsyncWebSocket
from ..views.view import AsyncWebSocketView, WebSocketView
from ..views.websocket import WebSocket
from .requests import respond, run_plain
from .wire import SUBPROTOCOL, direct_for

__all__ = ["ASKED", "AsyncChannelView", "ChannelView", "direct_to", "spoken_by"]

#: The methods that decide, each with its arguments.
ASKED = {
    "may_subscribe": ("ws", "channel"),
    "may_publish": ("ws", "channel", "data"),
    "may_join": ("ws", "channel", "info"),
}
CALLED = (*WebSocketView._flask_ws_calls, *ASKED)


class ChannelView(WebSocketView):
    """An endpoint for many channels: clients subscribe, publish and resume on one connection.

    ::

        @sock.route("/live")
        class Live(ChannelView):
            def may_subscribe(self, ws, channel):
                return channel.startswith("public:")

            def may_publish(self, ws, channel, data):
                return current_user.is_authenticated and channel == "public:chat"

            def may_join(self, ws, channel, info):
                return {"name": current_user.name}

    It speaks the subprotocol ``flask-ws.v1``, as ``flask-ws.js`` in browsers does; a client that
    does not offer it gets 400. Nothing is allowed unless these methods allow it. They are called
    as those of any event view are, in the request context of the handshake. Any of them may be an
    ``async def``: then all of the view runs on asyncio, as :class:`AsyncChannelView`.

    What clients are sent is the view's: it sends with ``sock.publish()``, ``sock.send_to()`` and
    their like for JSON, not with ``ws.send()`` and ``ws.subscribe()``.
    """

    _flask_ws_calls = CALLED

    def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
        """Decide whether a client may subscribe to a channel. By default it may not.

        It may also refuse with :func:`flask.abort`, whose description the client is told.

        :param ws: the connection.
        :param channel: the channel's name, of which the client may make up any.
        """
        _warn_of_default(self, "may_subscribe")
        return False

    def may_publish(self, ws: WebSocket, channel: str, data: Any) -> Any:
        """Decide whether a client may publish on a channel, and what. By default it may not.

        It may also refuse with :func:`flask.abort`, whose description the client is told.

        :param ws: the connection.
        :param channel: the channel's name, of which the client may make up any.
        :param data: what the client wants to publish: any JSON.
        :return: ``True`` to publish ``data``, ``False`` or ``None`` to refuse; anything else is
            published in its place.
        """
        _warn_of_default(self, "may_publish")
        return False

    def may_join(self, ws: WebSocket, channel: str, info: Any) -> Any:
        """Decide whether a client may be a member of a channel. By default it may not.

        A member is shown to the others, and is told who they are, as by :meth:`WebSocket.join` and
        :meth:`WebSocket.subscribe_presence`. Its key is :attr:`WebSocket.identity`, or what no
        other connection has where nobody knows who the client is.

        It may also refuse with :func:`flask.abort`, whose description the client is told.

        :param ws: the connection.
        :param channel: the channel's name, of which the client may make up any.
        :param info: what the client wants others to be told of it: any JSON; ``None`` for nothing.
        :return: what they are told, any JSON; ``True`` for nothing; ``False`` or ``None`` to
            refuse.
        """
        _warn_of_default(self, "may_join")
        return False

    def on_message(self, ws: WebSocket, message: str | bytes) -> Any:
        """Do what a client asks for. Not for apps to call."""
        response = respond(self, ws, message)
        # Where one of the methods is async, it is awaited.
        return response if isinstance(ws, AsyncWebSocket) else run_plain(response)


class AsyncChannelView(AsyncWebSocketView):
    """A :class:`ChannelView` whose methods are async functions; they run on asyncio.

    ::

        @sock.route("/live")
        class Live(AsyncChannelView):
            async def may_subscribe(self, ws, channel):
                return await members.has(channel, ws.identity)

    All that :class:`ChannelView` promises holds. A view that derives from that one and has an async
    method runs in the same way; but type checkers know by this class what its methods are given.
    Requests of one connection are done one after the other; those of others go on meanwhile.
    """

    _flask_ws_calls = CALLED

    async def may_subscribe(self, ws: AsyncWebSocket, channel: str) -> bool:
        """Decide whether a client may subscribe to a channel. By default it may not.

        :param ws: the connection.
        :param channel: the channel's name, of which the client may make up any.
        """
        _warn_of_default(self, "may_subscribe")
        return False

    async def may_publish(self, ws: AsyncWebSocket, channel: str, data: Any) -> Any:
        """Decide whether a client may publish on a channel, and what. By default it may not.

        :param ws: the connection.
        :param channel: the channel's name, of which the client may make up any.
        :param data: what the client wants to publish: any JSON.
        :return: as of :meth:`ChannelView.may_publish`.
        """
        _warn_of_default(self, "may_publish")
        return False

    async def may_join(self, ws: AsyncWebSocket, channel: str, info: Any) -> Any:
        """Decide whether a client may be a member of a channel. By default it may not.

        :param ws: the connection.
        :param channel: the channel's name, of which the client may make up any.
        :param info: what the client wants others to be told of it: any JSON; ``None`` for nothing.
        :return: as of :meth:`ChannelView.may_join`.
        """
        _warn_of_default(self, "may_join")
        return False

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        """Do what a client asks for. Not for apps to call."""
        await respond(self, ws, message)


def spoken_by(handler: object) -> str | None:
    """Return the subprotocol without which there is no connection to a handler, if there is."""
    is_one = isinstance(handler, type) and issubclass(handler, (ChannelView, AsyncChannelView))
    return SUBPROTOCOL if is_one else None


def direct_to(handler: object, connection: AnyConnection) -> Wrapped | None:
    """Return what sends a handler's client the messages to its user, if not its own sender does."""
    return None if spoken_by(handler) is None else direct_for(connection)


def _warn_of_default(view: ChannelView | AsyncChannelView, method: str) -> None:
    name = type(view).__qualname__
    warn_once(
        (method, name),
        "%s does not define %s(), so every client is refused: define it to allow some.",
        name,
        method,
    )
