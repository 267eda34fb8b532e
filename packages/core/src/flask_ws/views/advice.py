"""Warnings about mistakes in handlers that would otherwise go unnoticed.

Each is one line in the log; a mistake that is repeated is logged once.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import logging
import re
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from ..channels.results import Published, Subscription
from ..exceptions import ConnectionClosed
from ..sparing import warn_sparingly

if TYPE_CHECKING:
    from .async_websocket import AsyncWebSocket
    from .websocket import WebSocket

__all__ = [
    "GENERATOR",
    "SessionWatch",
    "called_by",
    "check_result",
    "explain_exception",
    "explain_foreign_end",
    "explain_late_send",
    "harmless",
    "has_lost_decorator",
    "is_async",
    "is_closed",
    "log_cancelled",
    "log_swallowed",
    "name_of",
    "warn_of_handler",
    "warn_once",
]

logger = logging.getLogger("flask_ws")

F = TypeVar("F", bound=Callable[..., None])

REFUSING = (
    "to refuse a handshake, do it before the handler runs: in a before_request function, or in "
    'a decorator of the view: @app.route("/...", websocket=True), then the decorator, then '
    "@sock.view."
)

DECORATED = (
    "A decorator that is to act before the handshake goes between "
    '@app.route("/...", websocket=True) and @sock.view; another has to be async, too.'
)
LOST_COROUTINE = (
    "{name} returned a coroutine, which nobody awaits: an async function stands behind something "
    "that is none, such as a decorator. "
) + DECORATED
NOT_AWAITED = (
    "{name} returned a coroutine, which nobody awaits: await it, as in return await ws.send(text)."
)
GENERATOR = (
    "{name} is a generator function: to call it runs nothing. A handler sends with ws.send(), not "
    "with yield."
)

#: Decorators that declare a route: one written above them has no effect on the route.
ROUTE_DECORATORS = frozenset({"route", "get", "post", "put", "delete", "patch"})

#: The methods that send, and the modules that they are in.
SENDING = frozenset({"send", "send_json", "ping"})
ENDPOINTS = frozenset(
    {
        "flask_ws.connection.async_sending",
        "flask_ws.connection.endpoint",
        "flask_ws.views.async_websocket",
        "flask_ws.views.websocket",
    }
)

_told: set[Hashable] = set()
#: Handlers that were checked already.
_looked_at: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()


def harmless(advise: F) -> F:
    """Log an error in advice, and go on: neither a handshake nor a handler fails for it."""

    @functools.wraps(advise)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            advise(*args, **kwargs)
        except Exception:
            logger.debug("%s has failed.", advise.__name__, exc_info=True)

    return cast("F", call)


def warn_once(key: Hashable, message: str, *args: object) -> None:
    """Log a warning, unless one with this key was logged before."""
    if key not in _told:
        _told.add(key)
        logger.warning(message, *args)


def name_of(function: Callable[..., object]) -> str:
    """Return a function's qualified name."""
    return getattr(function, "__qualname__", None) or repr(function)


def called_by(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a call runs: the function in a partial, the ``__call__`` of an object."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function):
        return type(function).__call__
    return function


def is_async(handler: Callable[..., Any]) -> bool:
    """Tell whether a handler is an async function, or an event view has async methods."""
    if isinstance(handler, type):
        names: tuple[str, ...] = getattr(handler, "_flask_ws_calls", ())
        return any(inspect.iscoroutinefunction(getattr(handler, name)) for name in names)
    return inspect.iscoroutinefunction(called_by(handler))


def check_result(handler: Callable[..., object], result: object) -> None:
    """Check what a handler has returned, which is discarded.

    :raises TypeError: it is a coroutine or a generator, which has not begun to run.
    """
    if result is None or isinstance(result, (Published, Subscription)):
        # Such as a lambda's.
        return
    if inspect.iscoroutine(result):
        result.close()
        words = NOT_AWAITED if is_async(handler) else LOST_COROUTINE
        raise TypeError(words.format(name=name_of(handler)))
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(GENERATOR.format(name=name_of(handler)))
    if isinstance(result, (Response, HTTPException)):
        text = "a response, which comes too late: the handshake has been answered. Instead, "
        text += REFUSING
    else:
        text = f"a value of type {type(result).__name__}, which is not sent: call ws.send()."
    warn_once(("returned", name_of(handler)), "%s returned %s", name_of(handler), text)


@harmless
def explain_exception(handler: Callable[..., object], error: Exception) -> None:
    """Say what to do instead of raising an HTTP exception, or of awaiting a blocking ``ws``."""
    if isinstance(error, HTTPException):
        warn_once(
            ("raised", name_of(handler)),
            "%s raised %s %s, which comes too late: the handshake has been answered. Instead, %s",
            name_of(handler),
            error.code,
            error.name,
            REFUSING,
        )
    elif (
        isinstance(error, TypeError)
        and re.search("async|await", str(error))
        and not is_async(handler)
        and is_async(inspect.unwrap(handler))
    ):
        warn_once(
            ("awaited", name_of(handler)),
            "%s is an async function behind a decorator that is none, and so it gets a blocking "
            "WebSocket, whose methods cannot be awaited. %s",
            name_of(handler),
            DECORATED,
        )


class SessionWatch:
    """Detects that a handler changes the session, which cannot be saved any more.

    Made when the handler begins.
    """

    __slots__ = ("_before", "_session")

    def __init__(self) -> None:
        self._session: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
        # The session was saved with the response. Session classes of others may not reset the flag.
        if self._is_modified():
            with contextlib.suppress(AttributeError):
                self._session.modified = False
        self._before = self._is_modified()

    def _is_modified(self) -> bool:
        return bool(getattr(self._session, "modified", False))

    @harmless
    def check(self, handler: Callable[..., object]) -> None:
        """Warn if the session was changed; called when the handler has ended."""
        if self._is_modified() and not self._before:
            warn_once(
                ("session", name_of(handler)),
                "%s changed the session, which is lost: its cookie went out with the handshake. "
                "Change it in an HTTP view, or before the handler runs.",
                name_of(handler),
            )


def has_lost_decorator(handler: Callable[..., Any]) -> bool:
    """Tell whether a handler has a decorator above its route, where it has no effect.

    ::

        @login_required         # of no effect
        @sock.route("/feed")
        def feed(ws):
            ...
    """
    return _is_decorated_in_module(handler) or _is_decorated_in_source(handler)


def _is_decorated_in_module(handler: Callable[..., Any]) -> bool:
    module = sys.modules.get(getattr(handler, "__module__", None) or "")
    found = getattr(module, name_of(handler), None)
    # A view made by Sock.view() may be decorated.
    if found is None or found is handler or hasattr(found, "flask_ws_handler"):
        return False
    while (found := getattr(found, "__wrapped__", None)) is not None:
        if found is handler:
            return True
    return False


def _is_decorated_in_source(handler: Callable[..., Any]) -> bool:
    """Search the source: a handler made in an app factory is in no module's namespace."""
    try:
        (statement,) = ast.parse(textwrap.dedent(inspect.getsource(handler))).body
    except Exception:
        # There is no source, or it cannot be parsed by itself, as with a lambda. Several threads
        # that parse at the same time make Python 3.11 raise SystemError.
        return False
    decorators = getattr(statement, "decorator_list", [])
    routes = [number for number, node in enumerate(decorators) if _is_route(node)]
    return bool(routes) and not all(map(_is_route, decorators[: routes[-1]]))


def _is_route(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(function, ast.Attribute) and function.attr in ROUTE_DECORATORS


@harmless
def warn_of_handler(handler: Callable[..., Any]) -> None:
    """Log once what is wrong with a handler although Python and Flask accept it."""
    with contextlib.suppress(TypeError):
        if handler in _looked_at:
            return
        _looked_at.add(handler)
    if has_lost_decorator(handler):
        warn_once(
            ("decorators", name_of(handler)),
            "A decorator stands above @sock.route of %s, and the route does not see it: it has "
            'no effect. Use @app.route("/...", websocket=True), then the decorator, then '
            "@sock.view.",
            name_of(handler),
        )
    module = sys.modules.get(getattr(handler, "__module__", None) or "")
    for name, value in list(vars(module or object).items()):
        if (
            isinstance(value, type)
            and issubclass(value, Exception)
            and value.__module__.partition(".")[0] == "simple_websocket"
        ):
            warn_once(
                ("import", getattr(module, "__name__", ""), name),
                "%s imports %s from simple_websocket, and flask-ws never raises that: "
                "from flask_ws import ConnectionClosed.",
                getattr(module, "__name__", ""),
                name,
            )


def log_cancelled(function: Callable[..., object], label: str, error: BaseException) -> None:
    """Log that a coroutine was cancelled, and not by flask-ws.

    :param label: the name of the connection in logs.
    """
    logger.error(
        "%s: %s was cancelled: something that it awaits was, or the app has cancelled its task.",
        label,
        name_of(function),
        exc_info=error,
    )


def is_closed(error: BaseException) -> bool:
    """Tell whether an exception is ``ConnectionClosed``, or a group of nothing else.

    Tasks of a ``TaskGroup`` that send and receive all learn of the end, and raise as one.
    """
    # Not the class: Python 3.10 has none, and what anyio takes in its place is another.
    inner = getattr(error, "exceptions", None)
    if isinstance(inner, tuple) and inner:
        return all(map(is_closed, inner))
    return isinstance(error, ConnectionClosed)


def log_swallowed(function: Callable[..., object], label: str, seconds: float, where: str) -> None:
    """Log that a coroutine goes on although it was cancelled.

    :param label: the name of the connection in logs.
    :param seconds: how long ago it was cancelled.
    :param where: the line on which it waits.
    """
    warn_sparingly(
        ("swallowed", name_of(function)),
        "%s: %s was cancelled %g s ago, because its connection has ended, and still runs, at %s. "
        "asyncio.CancelledError is to be raised again.",
        label,
        name_of(function),
        seconds,
        where,
    )


@harmless
def explain_foreign_end(handler: Callable[..., object]) -> None:
    """Say that a handler was ended by a connection that is not its own."""
    warn_once(
        ("foreign end", name_of(handler)),
        "%s was ended by the ConnectionClosed of another connection than its own. Catch "
        "ConnectionClosed where you send to others; or let them subscribe to a channel, and "
        "publish.",
        name_of(handler),
    )


@harmless
def explain_late_send(
    handler: Callable[..., object],
    ws: WebSocket | AsyncWebSocket,
    error: Exception,
    by: int | None = None,
) -> None:
    """Say that a handler sends on a connection that it has closed itself.

    :param by: what the handler runs on; by default this thread.
    """
    if ws._closed_by != (threading.get_ident() if by is None else by):
        return
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_name in SENDING and traceback.tb_frame.f_globals["__name__"] in ENDPOINTS:
            warn_sparingly(
                ("late", name_of(handler)),
                "%s calls %s() after close(), which raises ConnectionClosed and ends it: send "
                "before that, or return.",
                name_of(handler),
                code.co_name,
            )
            return
        traceback = traceback.tb_next
