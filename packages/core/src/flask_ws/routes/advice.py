"""Warnings about requests that reach no handler, and servers that block on a connection.

Each is one line in the log; a mistake that is repeated is logged once.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import flask
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import RequestRedirect, Rule, WebsocketMismatch

from ..http.handshake import is_upgrade
from ..http.records import REFUSAL_LOGGED, log_refusal
from ..plugin.asgi import find_wrapper, wrapped
from ..sparing import warn_sparingly
from ..views.advice import harmless, name_of, warn_once
from ..wording import shown_address, shown_path, shown_url

if TYPE_CHECKING:
    from ..plugin.hookspecs import ServerSocket

__all__ = [
    "await_requests",
    "describe_unregistered",
    "explain_lost_routes",
    "explain_routing",
    "log_refusal_by_app",
    "warn_of_silence",
    "warn_of_variables",
    "warn_of_worker",
    "warn_of_wrapper",
]

logger = logging.getLogger("flask_ws")

SWITCHING_PROTOCOLS = 101
#: The most routes that a line of the log names.
SHOWN_ROUTES = 8

TEST_HINT = " In a test, use flask_ws.testing.connect()."
NO_WEBSOCKET = "This URL is an HTTP route, not a WebSocket."


@harmless
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
                f"it is redirected to {shown_url(error.new_url)}, and browsers do not follow "
                "redirects of handshakes: connect to that URL.",
            )
    elif isinstance(error, WebsocketMismatch):
        text = error.description = _explain_mismatch(request)
        if text == NO_WEBSOCKET:
            text += f" {_describe_routes(request.path)}"
        log_refusal(request, error.code, text)
    elif isinstance(error, NotFound):
        if request.path.startswith("/socket.io/"):
            warn_once(
                "socket.io",
                "A Socket.IO client asks for %s. Socket.IO is a protocol of its own; flask-ws "
                "speaks plain WebSocket: connect with new WebSocket(url).",
                shown_path(request.environ),
            )
        elif is_upgrade(request.environ):
            hints = map(describe_unregistered, unregistered)
            text = " ".join(["no route has this URL.", _describe_routes(request.path), *hints])
            log_refusal(request, error.code, text)
    elif isinstance(error, HTTPException) and is_upgrade(request.environ):
        log_refusal(request, error.code, error.description)


def await_requests(receiver: Callable[..., object]) -> None:
    """Have a function called at each request of any app."""
    # Before Flask 2.3, there are signals only if blinker is installed.
    with contextlib.suppress(RuntimeError):
        flask.request_started.connect(receiver)


@harmless
def explain_lost_routes(rules: list[str]) -> None:
    """Say that there are routes which no app has.

    :param rules: their URL rules.
    """
    shown = ", ".join(rules[:SHOWN_ROUTES])
    warn_sparingly(
        "lost routes",
        "WebSocket handshake from %s for %s finds no route, and there are WebSocket routes that no "
        "app has: %s. Call init_app(app) of their Sock.",
        shown_address(flask.request.environ),
        shown_path(flask.request.environ),
        shown + (f" and {len(rules) - SHOWN_ROUTES} more" if len(rules) > SHOWN_ROUTES else ""),
    )


@harmless
def warn_of_variables(app: flask.Flask) -> None:
    """Say which handlers do not take the variables of their URLs.

    Skipped if the app has functions that remove variables of the URL before views get them
    (:meth:`flask.Flask.url_value_preprocessor`).
    """
    if any(app.url_value_preprocessors.values()):
        return
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        handler: Any = getattr(view, "flask_ws_handler", None)
        if not rule.websocket or handler is None:
            continue
        function = getattr(handler, "on_open", handler)
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            continue
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            continue
        missing = rule.arguments - {parameter.name for parameter in parameters}
        if missing:
            warn_once(
                ("variables", rule.rule, rule.endpoint),
                "%s does not take %s of its URL %s: each connection will end with 1011. Add it to "
                "its arguments.",
                name_of(function),
                ", ".join(sorted(missing)),
                rule.rule,
            )


def log_refusal_by_app(response: flask.Response) -> flask.Response:
    """Log that an app has answered a handshake itself: its views, decorators or error handlers."""
    request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    if (
        response.status_code != SWITCHING_PROTOCOLS
        and is_upgrade(request.environ)
        and REFUSAL_LOGGED not in request.environ
    ):
        place = f", to {shown_url(response.location)}" if response.location else ""
        text = f"by the app{place}."
        rule, view = request.url_rule, flask.current_app.view_functions.get(request.endpoint or "")
        if rule is not None and rule.websocket and not hasattr(view, "flask_ws_handler"):
            text += (
                f" The view {request.endpoint} of {rule.rule!r} has websocket=True and answers as "
                "to any HTTP request: @sock.view is missing directly above it, or hidden by a "
                "decorator that does not use functools.wraps."
            )
        log_refusal(request, response.status_code, text)
    return response


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
    """List the WebSocket routes, or name the one that resembles a path."""
    rules = sorted({rule.rule for rule in flask.current_app.url_map.iter_rules() if rule.websocket})
    if not rules:
        return "The app has no WebSocket routes: @sock.route declares one."
    if close := difflib.get_close_matches(path, rules, n=1):
        return f"Did you mean {close[0]}?"
    more = f" and {len(rules) - SHOWN_ROUTES} more" if len(rules) > SHOWN_ROUTES else ""
    return f"The WebSocket routes are {', '.join(rules[:SHOWN_ROUTES])}{more}."


def describe_unregistered(name: str) -> str:
    """Say that a blueprint is not registered."""
    return (
        f"Blueprint {name!r} has WebSocket routes, but the app has no such blueprint: "
        "app.register_blueprint() is missing."
    )


@harmless
def warn_of_silence(environ: dict[str, Any]) -> None:
    """Say that a configuration of logging has disabled our logger, where a server's log has it."""
    if logger.disabled:
        errors = environ["wsgi.errors"]
        errors.write(
            "The logger flask_ws is disabled, and with it all warnings of flask-ws. If that was "
            "logging.config, call it before flask_ws is imported, or with "
            "disable_existing_loggers=False.\n"
        )
        errors.flush()


@harmless
def warn_of_wrapper(environ: dict[str, Any]) -> None:
    """Say that no WebSockets reach the app: most wrappers of ASGI servers refuse them."""
    if is_upgrade(environ):
        # It has reached the app, and its refusal says so.
        return
    if not any(rule.websocket for rule in flask.current_app.url_map.iter_rules()):
        return
    if (wrapper := find_wrapper(environ)) is not None:
        warn_once("wrapper", "%s", wrapped(wrapper))


@harmless
def warn_of_worker(environ: dict[str, Any], server_socket: ServerSocket, *, detached: bool) -> None:
    """Warn if a connection blocks the server's whole process.

    :param detached: whether the connection leaves the server's worker.
    """
    if detached or server_socket.concurrency.green or environ.get("wsgi.multithread"):
        return
    if server_socket.detach:
        warn_once(
            "worker",
            "SOCK_DETACH is off, and the server's worker has one thread: while a WebSocket is "
            "open, the worker answers nothing else. Leave SOCK_DETACH on, or give the server "
            "threads.",
        )
    elif environ.get("wsgi.multiprocess"):
        warn_once(
            "process",
            "The server has a process for each request: connections share no memory, and each "
            "keeps a process while it is open. Give the server threads instead.",
        )
