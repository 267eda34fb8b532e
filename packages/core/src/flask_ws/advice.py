"""What users are told of mistakes that would otherwise pass without a word.

Each is one line in the log; what a program does again and again is told once.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import logging
import sys
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

import flask
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect, Rule, WebsocketMismatch
from werkzeug.wrappers import Response

from .handshake import is_upgrade, log_refusal

if TYPE_CHECKING:
    from .hookspecs import ServerSocket

__all__ = [
    "ASYNC",
    "GENERATOR",
    "SessionWatch",
    "check_result",
    "describe_unregistered",
    "explain_exception",
    "explain_routing",
    "has_lost_decorator",
    "warn_of_decorators",
    "warn_of_worker",
]

logger = logging.getLogger("flask_ws")

#: Routes that a line of the log names at most.
SHOWN_ROUTES = 8

TEST_HINT = " In a test, use flask_ws.testing.connect()."
NO_WEBSOCKET = "This URL is an HTTP route, not a WebSocket."
REFUSING = (
    "to refuse a handshake, do it before the handler runs: in a before_request function, or in "
    'a decorator of the view: @app.route("/...", websocket=True), then the decorator, then '
    "@sock.view."
)

ASYNC = (
    "{name} is an async function. flask-ws runs handlers as WSGI servers run views, in a thread "
    "or greenlet each: define it with def, and call receive() and send() without await."
)
GENERATOR = (
    "{name} is a generator function: to call it runs nothing. A handler sends with ws.send(), not "
    "with yield."
)

_told: set[Hashable] = set()


def _warn_once(key: Hashable, message: str, *args: object) -> None:
    if key not in _told:
        _told.add(key)
        logger.warning(message, *args)


def name_of(function: Callable[..., object]) -> str:
    """Name a function as its author would find it."""
    return getattr(function, "__qualname__", None) or repr(function)


# Requests that reach no handler


def explain_routing(error: object, unregistered: Iterable[str] = ()) -> None:
    """Say why a handshake reaches no WebSocket route, in the log and to the client.

    :param error: what routing has raised for the current request.
    :param unregistered: the names of blueprints that have WebSocket routes the app lacks.
    """
    request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    if isinstance(error, RequestRedirect):
        if is_upgrade(request.environ):
            log_refusal(
                request,
                error.code,
                f"it is redirected to {error.new_url}, and browsers do not follow redirects of "
                "handshakes: connect to that URL.",
            )
    elif isinstance(error, WebsocketMismatch):
        text = error.description = _explain_mismatch(request)
        if text == NO_WEBSOCKET:
            text += f" {_describe_routes(request.path)}"
        log_refusal(request, error.code, text)
    elif isinstance(error, NotFound):
        if request.path.startswith("/socket.io/"):
            _warn_once(
                "socket.io",
                "A Socket.IO client asks for %s. Socket.IO is a protocol of its own; flask-ws "
                "speaks plain WebSocket: connect with new WebSocket(url).",
                request.path,
            )
        elif is_upgrade(request.environ):
            hints = map(describe_unregistered, unregistered)
            text = " ".join(["no route has this URL.", _describe_routes(request.path), *hints])
            log_refusal(request, error.code, text)
    elif isinstance(error, HTTPException) and is_upgrade(request.environ):
        log_refusal(request, error.code, error.description)


def _explain_mismatch(request: flask.Request) -> str:
    if not is_upgrade(request.environ):
        return (
            "This URL is a WebSocket, and the request does not ask for one. A page connects with "
            "new WebSocket(url); if one did, a proxy on the way does not pass the headers Upgrade "
            "and Connection on." + (TEST_HINT if flask.current_app.testing else "")
        )
    rule = _find_http_rule(request)
    view = None if rule is None else flask.current_app.view_functions.get(rule.endpoint)
    if rule is not None and hasattr(view, "flask_ws_handler"):
        return (
            f"The rule of this URL lacks websocket=True: @app.route({rule.rule!r}, websocket=True)."
        )
    return NO_WEBSOCKET


def _find_http_rule(request: flask.Request) -> Rule | None:
    adapter = flask.current_app.create_url_adapter(request)
    assert adapter is not None
    try:
        rule, _ = adapter.match(method="GET", return_rule=True, websocket=False)
    except HTTPException:
        return None
    return rule


def _describe_routes(path: str) -> str:
    """Tell which WebSocket routes there are, or the one that is like a path."""
    rules = sorted({rule.rule for rule in flask.current_app.url_map.iter_rules() if rule.websocket})
    if not rules:
        return "The app has no WebSocket routes: @sock.route declares one."
    if close := difflib.get_close_matches(path, rules, n=1):
        return f"Did you mean {close[0]}?"
    more = f" and {len(rules) - SHOWN_ROUTES} more" if len(rules) > SHOWN_ROUTES else ""
    return f"The WebSocket routes are {', '.join(rules[:SHOWN_ROUTES])}{more}."


def describe_unregistered(name: str) -> str:
    """Say what a blueprint lacks."""
    return (
        f"Blueprint {name!r} has WebSocket routes, but the app has no such blueprint: "
        "app.register_blueprint() is missing."
    )


# Handlers


def check_result(handler: Callable[..., object], result: object) -> None:
    """Look at what a handler has returned, which nobody gets.

    :raises TypeError: it has not even begun to run.
    """
    if result is None:
        return
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(ASYNC.format(name=name_of(handler)))
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(GENERATOR.format(name=name_of(handler)))
    if isinstance(result, (Response, HTTPException)):
        text = "a response, which comes too late: the handshake has been answered. Instead, "
        text += REFUSING
    else:
        text = f"a value of type {type(result).__name__}, which is not sent: call ws.send()."
    _warn_once(("returned", name_of(handler)), "%s returned %s", name_of(handler), text)


def explain_exception(handler: Callable[..., object], error: Exception) -> None:
    """Say what to do instead of raising an HTTP exception in a handler."""
    if isinstance(error, HTTPException):
        _warn_once(
            ("raised", name_of(handler)),
            "%s raised %s %s, which comes too late: the handshake has been answered. Instead, %s",
            name_of(handler),
            error.code,
            error.name,
            REFUSING,
        )


class SessionWatch:
    """Notices that a handler changes the session, which can not be saved any more.

    Made when the handler begins.
    """

    __slots__ = ("_before", "_session")

    def __init__(self) -> None:
        self._session: Any = flask.session._get_current_object()  # type: ignore[attr-defined]
        # It has been saved, along with the response. Sessions of other kinds may not know that.
        if self._is_modified():
            with contextlib.suppress(AttributeError):
                self._session.modified = False
        self._before = self._is_modified()

    def _is_modified(self) -> bool:
        return bool(getattr(self._session, "modified", False))

    def check(self, handler: Callable[..., object]) -> None:
        """Look at the session when the handler has ended."""
        if self._is_modified() and not self._before:
            _warn_once(
                ("session", name_of(handler)),
                "%s changed the session, which is lost: its cookie went out with the handshake. "
                "Change it in an HTTP view, or before the handler runs.",
                name_of(handler),
            )


def has_lost_decorator(handler: Callable[..., Any]) -> bool:
    """Tell whether a handler is decorated where its route does not see it.

    ::

        @login_required         # of no effect
        @sock.route("/feed")
        def feed(ws):
            ...
    """
    module = sys.modules.get(getattr(handler, "__module__", None) or "")
    found = getattr(module, name_of(handler), None)
    # A view made by Sock.view() may be decorated.
    if found is None or found is handler or hasattr(found, "flask_ws_handler"):
        return False
    while (found := getattr(found, "__wrapped__", None)) is not None:
        if found is handler:
            return True
    return False


def warn_of_decorators(handler: Callable[..., Any]) -> None:
    """Say that a handler's route does not see its decorator, where it is so."""
    if has_lost_decorator(handler):
        _warn_once(
            ("decorators", name_of(handler)),
            "A decorator stands above @sock.route of %s, and the route does not see it: it has "
            'no effect. Use @app.route("/...", websocket=True), then the decorator, then '
            "@sock.view.",
            name_of(handler),
        )


def warn_of_worker(environ: dict[str, Any], server_socket: ServerSocket, *, detached: bool) -> None:
    """Say that a connection keeps all of a server's process to itself, where it does.

    :param detached: whether the connection leaves the server's worker.
    """
    if detached or server_socket.concurrency.green or environ.get("wsgi.multithread"):
        return
    if server_socket.detach:
        _warn_once(
            "worker",
            "SOCK_DETACH is off, and the server's worker has one thread: while a WebSocket is "
            "open, the worker answers nothing else. Leave SOCK_DETACH on, or give the server "
            "threads.",
        )
    elif environ.get("wsgi.multiprocess"):
        _warn_once(
            "process",
            "The server has a process for each request: connections share no memory, and each "
            "keeps a process while it is open. Give the server threads instead.",
        )
