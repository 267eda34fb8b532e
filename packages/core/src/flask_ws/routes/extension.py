"""Sock: WebSocket routes for a Flask app."""

from __future__ import annotations

import functools
import inspect
import os
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, TypeAlias, TypeVar

import flask
from werkzeug.routing import Rule

from ..budget import budget
from ..channels.hooks import check_pattern
from ..channels.listening import Message
from ..exceptions import ConfigurationError
from ..http.handshake import is_upgrade
from ..http.records import tallies_of
from ..live.view import spoken_by
from ..loop.monitor import count_connections, drain_process, is_draining
from ..loop.pool import thread_pool
from ..options import NAMES, ROUTE_NAMES, check_route_options, unknown
from ..tally import Stats
from ..views.async_websocket import AsyncWebSocket
from ..views.view import AsyncWebSocketView, WebSocketView
from ..views.websocket import WebSocket
from .advice import await_requests, explain_lost_routes, log_refusal_by_app
from .answer import answer
from .assets import serve_assets
from .checks import check_app, check_blueprint, check_handler, check_order, check_rule
from .publishing import Publishing
from .state import AppState
from .users import Users

__all__ = ["Sock"]

#: What runs on a connection. Strings, because Python 3.10 cannot evaluate them.
BlockingHandler: TypeAlias = "Callable[Concatenate[WebSocket, ...], object]"
AsyncHandler: TypeAlias = "Callable[Concatenate[AsyncWebSocket, ...], Coroutine[Any, Any, object]]"
Handler: TypeAlias = "type[WebSocketView | AsyncWebSocketView] | BlockingHandler | AsyncHandler"
F = TypeVar("F", bound="Handler")
H = TypeVar("H", bound="Callable[[Message], object]")

#: What :meth:`flask.Flask.add_url_rule` takes besides the options of flask-ws.
RULE_NAMES = frozenset(inspect.signature(Rule).parameters) | {"provide_automatic_options"}


class Sock(Publishing, Users):
    """WebSocket routes for Flask.

    ::

        app = Flask(__name__)
        sock = Sock(app)

        @sock.route("/echo")
        def echo(ws):
            for message in ws:
                ws.send(message)

    One ``Sock`` serves any number of apps: all that it is initialised with get its routes.

    :param app: the app, if there is one already; otherwise :meth:`init_app` follows.
    :raises ConfigurationError: an option in ``app.config`` has an unknown name or a wrong value.
    """

    def __init__(self, app: flask.Flask | None = None) -> None:
        self._routes: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []
        # Weak, so that the many apps of a test run can be freed.
        self._apps: weakref.WeakSet[flask.Flask] = weakref.WeakSet()
        super().__init__()
        # The functions that are called for what is published.
        self._hooks: list[tuple[str, Callable[[Message], object], bool]] = []
        # The blueprints that routes were declared on.
        self._blueprints: list[flask.Blueprint] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Initialise an app: it gets the routes declared so far, and those declared later.

        :param app: the app.
        :raises ConfigurationError: an option in ``app.config`` has an unknown name or a wrong
            value.
        :raises TypeError: ``app`` is no app; perhaps it is a blueprint.
        """
        check_app(app)
        state = AppState.of(app)
        if app in self._apps:
            return
        self._apps.add(app)
        _without_app.discard(self)
        if not state.blueprints:
            serve_assets(app)
            app.before_request(state.begin_request)
            app.after_request(log_refusal_by_app)
        state.blueprints.append(self._blueprints)
        for rule, view, rule_options in self._routes:
            app.add_url_rule(rule, view_func=view, **rule_options)
        for pattern, function, once in self._hooks:
            state.add_hook(app, pattern, function, once=once)

    def route(
        self, rule: str, bp: flask.Blueprint | None = None, **options: Any
    ) -> Callable[[F], F]:
        """Declare a WebSocket route. The handler is returned unchanged.

        ::

            @sock.route("/chat/<room>", max_message_size=4096)
            def chat(ws, room):
                ...

        The handler gets the :class:`WebSocket` first, then the URL's variables by name. It runs
        inside the request context. When it returns, the connection is closed with 1000; when it
        raises, with 1011, and the exception is reported as Flask reports a view's.

        :param rule: the URL rule, as for :meth:`flask.Flask.route`.
        :param bp: the blueprint to declare the route on, instead of the apps.
        :param options: options of flask-ws for this route (see :class:`Options`), and those of
            :meth:`flask.Flask.add_url_rule`, such as ``endpoint`` and ``subdomain``.
        :raises ConfigurationError: an option has an unknown name or a wrong value.
        :raises TypeError: the handler is not one, the rule is none, or ``bp`` is no blueprint.
        """
        check_rule(rule)
        check_blueprint(bp)
        own = {name: value for name, value in options.items() if name in NAMES}
        rule_options = {name: value for name, value in options.items() if name not in NAMES}
        for name in rule_options:
            if name not in RULE_NAMES:
                raise ConfigurationError(unknown(name, [*ROUTE_NAMES, *RULE_NAMES], ROUTE_NAMES))
        rule_options["websocket"] = True

        def decorate(handler: F) -> F:
            check_handler(handler, rule)
            view = self.view(handler, **own)
            if bp is not None:
                self._blueprints.append(bp)
                bp.add_url_rule(rule, view_func=view, **rule_options)
            else:
                self._routes.append((rule, view, rule_options))
                if not self._apps:
                    _without_app.add(self)
                    await_requests(look_for_lost_routes)
                for app in list(self._apps):
                    app.add_url_rule(rule, view_func=view, **rule_options)
            return handler

        return decorate

    def view(self, handler: Handler, **options: Any) -> Callable[..., flask.Response]:
        """Turn a handler into a Flask view, for decorators that must act before the handshake.

        ::

            @app.route("/feed", websocket=True)
            @login_required
            @sock.view
            def feed(ws):
                ...

        :param handler: the handler.
        :param options: options of flask-ws for this view.
        :return: a view function. What it returns is a response of status 101, or it refuses the
            handshake with an HTTP exception.
        :raises ConfigurationError: an option has an unknown name or a wrong value.
        :raises TypeError: the handler is not one.
        """
        check_handler(handler)
        for app in list(self._apps):
            check_order(handler, app.view_functions.values())
        changes = check_route_options(options)
        speaks = spoken_by(handler)
        if speaks is not None:
            if "subprotocols" in changes:
                raise ConfigurationError(f"A ChannelView speaks {speaks}: leave subprotocols out.")
            changes["subprotocols"] = (speaks,)

        @functools.wraps(handler)
        def websocket_view(*args: Any, **kwargs: Any) -> flask.Response:
            state = AppState.of(flask.current_app)
            options = state.read().replace(changes)
            return answer(handler, args, kwargs, options, state.channels, self._rules)

        if not hasattr(handler, "__name__"):
            # Else all of these would be one endpoint.
            websocket_view.__name__ = _name_of_call(handler)
        # For the command line: functools.wraps copies them to decorators around the view.
        websocket_view.__dict__.update(flask_ws_handler=handler, flask_ws_options=changes)
        return websocket_view

    def on_publish(self, pattern: str, *, once: bool = False) -> Callable[[H], H]:
        """Have a function called for each message that is published on some channels.

        ::

            @sock.on_publish("jobs:*", once=True)
            def work(message):
                print(message.channel, message.data)

        It is called in an app context, with a :class:`Message`: for one after the other, on a
        thread that is there while there are any. What it raises is logged. A thousand messages
        wait for it at most, or 16 MiB; past that the oldest are dropped, and
        :attr:`Message.after_gap` of the next says so. The function is returned unchanged; it may be
        an ``async def`` where a view of the app may (Flask's extra ``async``).

        Each process calls it that runs the app, from its first request or publication on, for what
        it publishes and what others do that have the same app.

        :param pattern: the name of a channel, or a pattern with ``*``, ``?`` and ``[a-z]``.
        :param once: whether only one process calls it for each message, of all that run the app.
            What that process does not finish is not called again.
        :raises ConfigurationError: the broker cannot tell what is done once.
        :raises TypeError: the pattern is no text, or the function is none.
        :raises ValueError: the pattern is empty, or longer than 200 bytes of UTF-8.
        """
        check_pattern(pattern)

        def decorate(function: H) -> H:
            if not callable(function):
                raise TypeError(f"on_publish() decorates a function, not {function!r}.")
            self._hooks.append((pattern, function, once))
            for app in list(self._apps):
                AppState.of(app).add_hook(app, pattern, function, once=once)
            return function

        return decorate

    def drain(self) -> None:
        """Begin to close all WebSockets of this process, as when its server stops.

        Each client is told 1001 at its time, spread over ``SOCK_DRAIN`` seconds, and handshakes get
        503 from now on. For servers that are stopped in a way of their own, and for the view that
        ``flask ws drain`` asks: the process goes on with everything else.
        """
        drain_process()

    def stats(self, app: flask.Flask | None = None) -> Stats:
        """Return the numbers of an app's WebSockets in this process, since it began.

        They are exact: a message is in them as soon as it was received or sent.

        :param app: the app; the current one by default, for which an app context is needed.
        """
        found = flask.current_app if app is None else app
        return Stats(
            pid=os.getpid(),
            draining=is_draining(),
            connections=count_connections(),
            handler_threads=len(thread_pool()),
            buffered=budget.total,
            routes=tallies_of(found).read(),
            **AppState.of(found).channels.stats(),
        )


def _name_of_call(handler: object) -> str:
    """Name a handler that has no name: a partial by its function, an object by its class."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name: str = getattr(handler, "__name__", type(handler).__name__)
    return name


#: Those that have routes, and have not been given an app.
_without_app: weakref.WeakSet[Sock] = weakref.WeakSet()


def look_for_lost_routes(_app: flask.Flask, **_: Any) -> None:
    """Say that a handshake finds no route because its ``Sock`` was given no app."""
    if not _without_app:
        flask.request_started.disconnect(look_for_lost_routes)
    elif flask.request.routing_exception is not None and is_upgrade(flask.request.environ):
        rules = [rule for sock in list(_without_app) for rule, *_ in sock._routes]
        explain_lost_routes(rules)
