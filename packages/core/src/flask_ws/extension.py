"""Sock: WebSocket routes for a Flask app."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, TypeAlias, TypeVar

import flask
from werkzeug.exceptions import NotImplemented as NotImplementedResponse
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.routing import Rule

from .detach import CROWDED, Detacher, find_socket
from .exceptions import ConfigurationError
from .handshake import check, refuse
from .monitor import monitor_for
from .options import NAMES, PREFIX, Options, check_route_options, unknown
from .plugins import hint
from .response import Upgrade, WebSocketResponse
from .views import WebSocketView
from .websocket import WebSocket

__all__ = ["Sock"]

#: What runs on a connection. A string, because Python 3.10 cannot evaluate it.
Handler: TypeAlias = "Callable[Concatenate[WebSocket, ...], object] | type[WebSocketView]"
F = TypeVar("F", bound="Handler")

EXTENSION = "flask_ws"
#: What :meth:`flask.Flask.add_url_rule` takes besides the options of flask-ws.
RULE_NAMES = frozenset(inspect.signature(Rule).parameters) | {"provide_automatic_options"}
#: Seconds after which a client that found the server full may try again.
RETRY_AFTER = 5


class Sock:
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
        # Weak, so that apps that tests make do not pile up.
        self._apps: weakref.WeakSet[flask.Flask] = weakref.WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Initialise an app: it gets the routes declared so far, and those declared later.

        :param app: the app.
        :raises ConfigurationError: an option in ``app.config`` has an unknown name or a wrong
            value.
        """
        AppOptions.of(app)
        if app in self._apps:
            return
        self._apps.add(app)
        for rule, view, rule_options in self._routes:
            app.add_url_rule(rule, view_func=view, **rule_options)

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
        :raises TypeError: the handler is not one.
        """
        own = {name: value for name, value in options.items() if name in NAMES}
        rule_options = {name: value for name, value in options.items() if name not in NAMES}
        for name in rule_options:
            if name not in RULE_NAMES:
                raise ConfigurationError(unknown(name, [*NAMES, *RULE_NAMES]))
        rule_options["websocket"] = True

        def decorate(handler: F) -> F:
            view = self.view(handler, **own)
            if bp is not None:
                bp.add_url_rule(rule, view_func=view, **rule_options)
            else:
                self._routes.append((rule, view, rule_options))
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
        _check_handler(handler)
        changes = check_route_options(options)

        @functools.wraps(handler)
        def websocket_view(*args: Any, **kwargs: Any) -> flask.Response:
            app_options = AppOptions.of(flask.current_app._get_current_object())  # type: ignore[attr-defined]
            return _answer(handler, args, kwargs, app_options.read().replace(changes))

        # For the command line, which finds them under any decorator that uses functools.wraps.
        websocket_view.__dict__.update(flask_ws_handler=handler, flask_ws_options=changes)
        return websocket_view


class AppOptions:
    """An app's options, read again when its configuration has changed."""

    def __init__(self, app: flask.Flask) -> None:
        self._config = app.config
        self._seen: dict[str, Any] = {}
        self._options = Options()
        self.read()

    @classmethod
    def of(cls, app: flask.Flask) -> AppOptions:
        """Return the app's options.

        :raises ConfigurationError: an option has an unknown name or a wrong value.
        """
        options = app.extensions.get(EXTENSION)
        if options is None:
            options = app.extensions[EXTENSION] = cls(app)
            app.wsgi_app = Detacher(app.wsgi_app, options.read)  # type: ignore[method-assign]
        assert isinstance(options, AppOptions)
        return options

    def read(self) -> Options:
        """Return the options as they are now."""
        seen = {key: value for key, value in self._config.items() if key.startswith(PREFIX)}
        if seen != self._seen:
            self._options = Options.from_config(seen)
            self._seen = seen
        return self._options


def _answer(
    handler: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> WebSocketResponse:
    """Answer the current request's handshake: with a response of 101, or by refusing it."""
    request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    handshake = check(request, options)
    server_socket = find_socket(request.environ)
    if server_socket is None:
        refuse(request, NotImplementedResponse(hint(request.environ)))
    needs_thread = not isinstance(handler, type) or hasattr(server_socket.sock, "_sslobj")
    if request.environ.get(CROWDED) and options.detach and needs_thread:
        refuse(
            request,
            ServiceUnavailable(
                f"This process runs {options.max_threads} WebSocket handlers (SOCK_MAX_THREADS).",
                retry_after=RETRY_AFTER,
            ),
        )
    if len(monitor_for(server_socket.concurrency)) >= options.max_connections:
        refuse(
            request,
            ServiceUnavailable(
                f"This process has {options.max_connections} WebSocket connections "
                "(SOCK_MAX_CONNECTIONS).",
                retry_after=RETRY_AFTER,
            ),
        )
    return WebSocketResponse.accept(
        Upgrade(handler, args, kwargs, handshake, options, server_socket)
    )


def _check_handler(handler: Callable[..., Any]) -> None:
    if isinstance(handler, type):
        if not issubclass(handler, WebSocketView):
            raise TypeError(f"{handler.__name__} is no event view: derive it from WebSocketView.")
        for method in (handler.on_open, handler.on_message, handler.on_close):
            _check_sync(method)
        return
    if not callable(handler):
        raise TypeError(f"A WebSocket handler is a function, not {handler!r}.")
    name = getattr(handler, "__name__", repr(handler))
    _check_sync(handler)
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        return
    if not any(
        parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in parameters
    ):
        raise TypeError(
            f"{name} takes no arguments, and a WebSocket handler gets the connection as its "
            f"first: def {name}(ws)."
        )


def _check_sync(function: Callable[..., Any]) -> None:
    # What a call would run: the function in a partial, the __call__ of an object.
    called = function.func if isinstance(function, functools.partial) else function
    if not inspect.isroutine(called):
        called = type(called).__call__
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(
            f"{called.__qualname__} is an async function. flask-ws runs handlers as WSGI servers "
            "run views, in a thread or greenlet each: define it with def, and call receive() and "
            "send() without await."
        )
