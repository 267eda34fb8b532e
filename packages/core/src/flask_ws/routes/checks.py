"""Mistakes in what is declared as a route, reported when it is declared."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

import flask

from ..live.view import ASKED, spoken_by
from ..views.advice import GENERATOR, called_by
from ..views.view import AsyncWebSocketView, WebSocketView

__all__ = ["check_app", "check_blueprint", "check_handler", "check_order", "check_rule"]

#: The methods of an event view, each with its arguments.
METHODS: dict[str, tuple[str, ...]] = {
    "on_open": ("ws",),
    "on_message": ("ws", "message"),
    "on_close": ("ws", "code", "reason"),
}
#: A variable in a URL rule.
VARIABLE = re.compile(r"<(?:[^<>:]*(?:\([^<>]*\))?:)?([a-zA-Z_]\w*)>")


def check_app(app: object) -> None:
    """Check that ``app`` is an app.

    :raises TypeError: it is not; perhaps it is a blueprint.
    """
    if isinstance(app, flask.Blueprint):
        raise TypeError(
            f"Blueprint {app.name!r} is no app. Make one Sock for the app, Sock(app), and declare "
            'the routes of a blueprint with it: @sock.route("/...", bp=blueprint).'
        )
    # isinstance() accepts a proxy such as current_app, too.
    if not isinstance(app, flask.Flask):
        raise TypeError(f"Sock takes the app, as in Sock(app), not {app!r}.")


def check_blueprint(bp: object) -> None:
    """Check that ``bp`` is a blueprint.

    :raises TypeError: it is not; perhaps it is a blueprint's name.
    """
    if bp is not None and not isinstance(bp, flask.Blueprint):
        raise TypeError(f"bp is the blueprint itself, as in bp=blueprint, not {bp!r}.")


def check_rule(rule: object) -> None:
    """Check that ``rule`` is a URL rule.

    :raises TypeError: it is not; most likely it is the handler.
    """
    if not isinstance(rule, str):
        raise TypeError(f'route() takes the URL rule first, as in @sock.route("/chat"), not {rule}')


def check_handler(handler: Callable[..., Any], rule: str = "") -> None:
    """Check a handler, or the class of an event view.

    :param handler: the handler.
    :param rule: its URL rule, if that is known.
    :raises TypeError: it cannot be one.
    """
    if isinstance(handler, type):
        _check_view(handler)
        return
    if isinstance(handler, (WebSocketView, AsyncWebSocketView)):
        raise TypeError(
            f"Give the class {type(handler).__name__}, not an instance of it: each connection "
            "gets one of its own."
        )
    if not callable(handler):
        raise TypeError(f"A WebSocket handler is a function, not {handler!r}.")
    name = getattr(handler, "__name__", repr(handler))
    _check_no_generator(handler)
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        return
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if not positional:
        raise TypeError(
            f"{name} takes no arguments, and a WebSocket handler gets the connection as its "
            f"first: def {name}(ws)."
        )
    first = positional[0]
    variables = VARIABLE.findall(rule)
    if first.kind is first.POSITIONAL_OR_KEYWORD and first.name in variables:
        raise TypeError(
            f"The first argument of {name} is {first.name!r}, a variable of its URL, and a "
            f"WebSocket handler gets the connection as its first: "
            f"def {name}({', '.join(['ws', *variables])})."
        )


def check_order(handler: Callable[..., Any], views: Iterable[object]) -> None:
    """Check that a handler is not a Flask view already, which would be called without ``ws``.

    :param views: the view functions of an app.
    :raises TypeError: it is one.
    """
    if any(view is handler for view in views):
        name = getattr(handler, "__name__", repr(handler))
        raise TypeError(
            f"@app.route has {name} already, as it is: @sock.view goes below @app.route, and "
            "decorators between them; @sock.route goes without @app.route."
        )


def _check_view(view: type) -> None:
    if not issubclass(view, (WebSocketView, AsyncWebSocketView)):
        raise TypeError(f"{view.__name__} is no event view: derive it from WebSocketView.")
    is_for_channels = spoken_by(view) is not None
    methods = {**METHODS, **ASKED} if is_for_channels else METHODS
    for method, arguments in methods.items():
        function = getattr(view, method)
        _check_no_generator(function)
        try:
            # bind_partial: it may also take the variables of the URL.
            inspect.signature(function).bind_partial(view, *arguments)
        except TypeError:
            raise TypeError(
                f"{view.__name__}.{method} is called with more arguments than it takes: "
                f"def {method}({', '.join(['self', *arguments])})."
            ) from None
        except ValueError:
            pass
    if is_for_channels:
        return
    own = {name for name in vars(view) if name.startswith("on_")}
    base = AsyncWebSocketView if issubclass(view, AsyncWebSocketView) else WebSocketView
    inherited = any(getattr(view, name) is not getattr(base, name) for name in METHODS)
    if own and not inherited:
        raise TypeError(
            f"{view.__name__} has {', '.join(sorted(own))}, which flask-ws does not call: the "
            f"methods of an event view are {', '.join(METHODS)}."
        )


def _check_no_generator(function: Callable[..., Any]) -> None:
    called = called_by(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(GENERATOR.format(name=called.__qualname__))
