"""ChannelView: one endpoint for many channels, which clients subscribe to and publish on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from werkzeug.exceptions import HTTPException

from ..channels.settings import RESERVED, check_name
from ..connection.endpoint import connection_of
from ..sparing import warn_sparingly
from ..views.advice import name_of, warn_once
from ..views.view import WebSocketView
from ..views.websocket import WebSocket
from . import wire
from .wire import BAD_REQUEST, SUBPROTOCOL, Request, Violation

__all__ = ["ChannelView", "spoken_by"]


class ChannelView(WebSocketView):
    """An endpoint for many channels: clients subscribe, publish and resume on one connection.

    ::

        @sock.route("/live")
        class Live(ChannelView):
            def may_subscribe(self, ws, channel):
                return channel.startswith("public:")

            def may_publish(self, ws, channel, data):
                return current_user.is_authenticated and channel == "public:chat"

    It speaks the subprotocol ``flask-ws.v1``, as ``flask-ws.js`` in browsers does; a client that
    does not offer it gets 400. Nothing is allowed unless these methods allow it. They are called
    as those of any event view are, in the request context of the handshake.

    What clients are sent is the view's: it sends with ``sock.publish()`` and
    ``sock.publish_json()``, not with ``ws.send()`` and ``ws.subscribe()``.
    """

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

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        """Do what a client asks for. Not for apps to call."""
        try:
            request = wire.read_request(message)
            text = _answer(self, ws, request)
        except Violation as violation:
            label = connection_of(ws).label
            warn_sparingly(
                (SUBPROTOCOL, label.endpoint),
                "%s: it is closed with %d, as the client does not speak %s: %s",
                label,
                BAD_REQUEST,
                SUBPROTOCOL,
                violation,
            )
            ws.close(BAD_REQUEST, f"{SUBPROTOCOL}: {violation}")
            return
        except HTTPException as error:
            if error.code is None or error.code >= 500:
                raise
            text = wire.refusal(request, "forbidden", error.description or error.name)
        if text is not None:
            ws.send(text)


def spoken_by(handler: object) -> str | None:
    """Return the subprotocol without which there is no connection to a handler, if there is."""
    is_one = isinstance(handler, type) and issubclass(handler, ChannelView)
    return SUBPROTOCOL if is_one else None


def _answer(view: ChannelView, ws: WebSocket, request: Request) -> str | None:
    """Do what is asked for, and return the answer, unless it has been sent."""
    if request.type == "ping":
        return wire.answer("pong", request)
    act = ACTS.get(request.type)
    if act is None:
        return wire.refusal(request, "unsupported", "The server does not know this type.")
    if request.channel is None:
        raise Violation("channel is missing")
    try:
        check_name(request.channel)
    except ValueError as error:
        return wire.refusal(request, "channel", str(error))
    return act(view, ws, request, request.channel)


def _subscribe(view: ChannelView, ws: WebSocket, request: Request, channel: str) -> str | None:
    # A copy: others may end the connection meanwhile.
    subscribed = set(ws._channels.of(connection_of(ws)))
    if channel in subscribed:
        return wire.refusal(request, "subscribed", "The channel is subscribed already.")
    if sum(name[0] != RESERVED for name in subscribed) >= ws._max_subscriptions:
        return wire.refusal(request, "limit", "No more channels can be subscribed.")
    allowed: object = view.may_subscribe(ws, channel)
    if allowed is None or allowed is False:
        return wire.refusal(request, "forbidden", "The channel may not be subscribed.")
    if allowed is not True:
        # A response, a coroutine and much else would count as true.
        _check_sync(view.may_subscribe, allowed)
        raise TypeError(
            f"{name_of(view.may_subscribe)} must return True or False, not {allowed!r}."
        )
    ws._subscribe(
        channel,
        since=request.since,
        gap=wire.gap_of(channel),
        wrapped=wire.wrapped_for(connection_of(ws), channel, request),
    )
    return None


def _unsubscribe(_view: ChannelView, ws: WebSocket, request: Request, channel: str) -> str | None:
    text = wire.answer("unsubscribed", request, channel=channel)
    if channel not in ws._channels.of(connection_of(ws)):
        return text
    ws._channels.unsubscribe(connection_of(ws), channel, text)
    return None


def _publish(view: ChannelView, ws: WebSocket, request: Request, channel: str) -> str:
    if request.data is ...:
        raise Violation("data is missing")
    result: object = view.may_publish(ws, channel, request.data)
    if result is None or result is False:
        return wire.refusal(request, "forbidden", "Nothing may be published here.")
    _check_sync(view.may_publish, result)
    text = ws._provider.dumps(request.data if result is True else result)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = ""
    if not (text and wire.is_json(text)):
        return wire.refusal(request, "data", "JSON has no such number or text.")
    published = ws._channels.publish(channel, text, is_json=True)
    if not published:
        return wire.refusal(request, "away", "Not all may have got it: the broker is away.")
    return wire.answer("published", request, channel=channel, position=published.position)


#: What each type of request does.
ACTS: dict[str, Callable[[ChannelView, WebSocket, Request, str], str | None]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "publish": _publish,
}


def _check_sync(method: Callable[..., object], result: object) -> None:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{name_of(method)} is called without await: make it a plain method.")


def _warn_of_default(view: ChannelView, method: str) -> None:
    name = type(view).__qualname__
    warn_once(
        (method, name),
        "%s does not define %s(), so every client is refused: define it to allow some.",
        name,
        method,
    )
