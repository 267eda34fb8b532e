"""What clients ask for, and what is done; for views with plain methods, and with async ones.

Both have the same code, which is async. Where the view's methods are plain, nothing in it waits,
and :func:`run_plain` runs it to its end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

from werkzeug.exceptions import HTTPException

from ..channels.settings import PRESENCE, check_name, is_counted
from ..connection.endpoint import connection_of
from ..sparing import warn_sparingly
from ..views.advice import LOST_COROUTINE, name_of
from ..views.async_websocket import AsyncWebSocket
from ..views.websocket import WebSocket
from . import wire
from .wire import BAD_REQUEST, SUBPROTOCOL, Request, Violation

__all__ = ["respond", "run_plain"]

AnyWebSocket: TypeAlias = WebSocket | AsyncWebSocket
T = TypeVar("T")

#: What nobody awaits.
JSON_TYPES = frozenset({bool, dict, float, int, list, str, type(None)})


class View(Protocol):
    """What decides about requests: its methods are plain, or async."""

    def may_subscribe(self, ws: Any, channel: str) -> Any:
        """Decide whether a client may subscribe to a channel."""

    def may_publish(self, ws: Any, channel: str, data: Any) -> Any:
        """Decide whether a client may publish on a channel, and what."""

    def may_join(self, ws: Any, channel: str, info: Any) -> Any:
        """Decide whether a client may be a member of a channel, and what others are told."""


async def respond(view: View, ws: AnyWebSocket, message: str | bytes) -> None:
    """Do what a client asks for, and answer."""
    try:
        request = wire.read_request(message)
        text = await _answer(view, ws, request)
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
        await _done(ws.close(BAD_REQUEST, f"{SUBPROTOCOL}: {violation}"))
        return
    except HTTPException as error:
        if error.code is None or error.code >= 500:
            raise
        text = wire.refusal(request, "forbidden", error.description or error.name)
    if text is not None:
        await _done(ws.send(text))


def run_plain(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in which nothing waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits.")


async def _answer(view: View, ws: AnyWebSocket, request: Request) -> str | None:
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
    return await act(view, ws, request, request.channel)


async def _subscribe(view: View, ws: AnyWebSocket, request: Request, channel: str) -> str | None:
    # A copy: others may end the connection meanwhile.
    subscribed = set(ws._channels.of(connection_of(ws)))
    if channel in subscribed:
        return wire.refusal(request, "subscribed", "The channel is subscribed already.")
    if sum(map(is_counted, subscribed)) >= ws._max_subscriptions:
        return wire.refusal(request, "limit", "No more channels can be subscribed.")
    allowed = await _ask(ws, view.may_subscribe, channel)
    if allowed is None or allowed is False:
        return wire.refusal(request, "forbidden", "The channel may not be subscribed.")
    if allowed is not True:
        # A response and much else would count as true.
        raise TypeError(
            f"{name_of(view.may_subscribe)} must return True or False, not {allowed!r}."
        )
    await _beside(
        ws,
        ws._subscribe,
        channel,
        since=request.since,
        gap=wire.gap_of(channel),
        wrapped=wire.wrapped_for(connection_of(ws), channel, request),
    )
    return None


async def _unsubscribe(_view: View, ws: AnyWebSocket, request: Request, channel: str) -> str | None:
    text = wire.answer("unsubscribed", request, channel=channel)
    connection = connection_of(ws)
    if channel not in ws._channels.of(connection):
        return text
    await _beside(ws, ws._channels.unsubscribe, connection, channel, text)
    return None


async def _publish(view: View, ws: AnyWebSocket, request: Request, channel: str) -> str:
    if request.data is ...:
        raise Violation("data is missing")
    result = await _ask(ws, view.may_publish, channel, request.data)
    if result is None or result is False:
        return wire.refusal(request, "forbidden", "Nothing may be published here.")
    try:
        text = ws._provider.dumps(request.data if result is True else result)
        text.encode()
    except (UnicodeEncodeError, RecursionError):
        # The latter where it is nested too deeply.
        text = ""
    if not (text and wire.is_json(text)):
        return wire.refusal(request, "data", "JSON has no such number or text.")
    published = await _beside(ws, ws._channels.publish, channel, text, is_json=True)
    if not published:
        return wire.refusal(request, "away", "Not all may have got it: the broker is away.")
    return wire.answer("published", request, channel=channel, position=published.position)


async def _join(view: View, ws: AnyWebSocket, request: Request, channel: str) -> str | None:
    connection, channels = connection_of(ws), ws._channels
    joined, subscribed = set(channels.attendance.of(connection)), set(channels.of(connection))
    if (channel not in joined and len(joined) >= ws._max_joins) or (
        PRESENCE + channel not in subscribed
        and sum(map(is_counted, subscribed)) >= ws._max_subscriptions
    ):
        return wire.refusal(request, "limit", "No more channels can be joined.")
    info = await _ask(ws, view.may_join, channel, request.info)
    if info is None or info is False:
        return wire.refusal(request, "forbidden", "The channel may not be joined.")
    key = ws.identity or ws.id
    try:
        await _done(ws.join(channel, key, None if info is True else info))
    except ValueError:
        return wire.refusal(request, "data", "The info is too long, or no JSON.")
    # All who are there come after it.
    await _done(ws.send(wire.answer("joined", request, channel=channel, key=key)))
    await _done(ws.subscribe_presence(channel))
    return None


async def _leave(_view: View, ws: AnyWebSocket, request: Request, channel: str) -> str | None:
    text = wire.answer("left", request, channel=channel)
    connection = connection_of(ws)
    await _done(ws.leave(channel))
    if PRESENCE + channel not in ws._channels.of(connection):
        return text
    await _beside(ws, ws._channels.unwatch, connection, channel, text)
    return None


#: What each type of request does.
ACTS: dict[str, Callable[[View, AnyWebSocket, Request, str], Coroutine[Any, Any, str | None]]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "publish": _publish,
    "join": _join,
    "leave": _leave,
}


async def _ask(ws: AnyWebSocket, method: Callable[..., Any], *args: Any) -> Any:
    """Call a method of the app's.

    :raises TypeError: it returns what is to be awaited, and nothing else here is async.
    """
    result = method(ws, *args)
    # The former is quick to find out, and nearly always so.
    if type(result) in JSON_TYPES or not inspect.isawaitable(result):
        return result
    if isinstance(ws, AsyncWebSocket):
        return await result
    if inspect.iscoroutine(result):
        result.close()
    raise TypeError(LOST_COROUTINE.format(name=name_of(method)))


async def _beside(ws: AnyWebSocket, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call what may wait for the broker; other tasks of a loop run meanwhile."""
    if isinstance(ws, AsyncWebSocket):
        return await ws._beside(function, *args, **kwargs)
    return function(*args, **kwargs)


async def _done(result: Coroutine[Any, Any, None] | None) -> None:
    if result is not None:
        await result
