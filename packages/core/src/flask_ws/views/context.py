"""The request context of a handshake, for what runs on its connection later.

Flask's versions differ in it: up to 3.1 a request context stands on an app context, from 3.2 on
there is one context for both, and its teardown functions are called with it.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Mapping
from typing import Any

import flask
from werkzeug.datastructures import EnvironHeaders

__all__ = [
    "Scope",
    "hold_request",
    "log_exception",
    "move_request",
    "own_context",
    "tear_down",
    "tear_down_with",
]

#: Receivers of the signals at the end of a request; old versions of Flask may have no signals.
REQUEST_LISTENERS: Mapping[Any, Any] = getattr(flask.request_tearing_down, "receivers", {})
APP_LISTENERS: Mapping[Any, Any] = getattr(flask.appcontext_tearing_down, "receivers", {})

#: Whether ``do_teardown_request`` takes the context as an argument: from Flask 3.2 on.
ONE_CONTEXT = "ctx" in inspect.signature(flask.Flask.do_teardown_request).parameters
#: Prefixes of the names of the context variables that hold Flask's own contexts;
#: the last is Werkzeug's before version 2.2.
OWN_VARIABLES = ("flask.", "werkzeug.", "local_storage")


def current_context() -> Any:
    """Return Flask's context object of the current request."""
    if ONE_CONTEXT:
        return flask.globals.app_ctx._get_current_object()  # type: ignore[attr-defined]
    try:
        from flask.globals import request_ctx
    except ImportError:
        # Before Flask 2.2.
        from flask.globals import _request_ctx_stack  # type: ignore[attr-defined]

        return _request_ctx_stack.top
    return request_ctx._get_current_object()  # type: ignore[attr-defined]


def move_request(environ: dict[str, Any]) -> None:
    """Replace the environ of the current request."""
    request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    request.environ = environ
    request.headers = EnvironHeaders(environ)


def tear_down_with(error: BaseException) -> None:
    """Have the current request's teardown functions called with an error.

    Flask passes on the errors that a view raises. A handler runs in the response, after the view,
    and Flask ends its context as if there had been no error.
    """
    context = current_context()

    def pop(_: object = None) -> None:
        del context.pop
        context.pop(error)

    context.pop = pop


#: Whether the code that runs has its context variables to itself, to the end of a request.
own_context: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "flask_ws.own_context", default=False
)


def hold_request() -> None:
    """Keep the current request's context for what goes on with it elsewhere.

    Flask, whose call is about to end, does not tear down a context that was pushed once more. So
    whoever goes on with it calls :func:`tear_down`, in a copy of the current context variables.
    Here it is left behind as if the request went on: these context variables must serve no other.
    """
    current_context().push()


def tear_down(error: BaseException | None) -> None:
    """Do what the end of a request does; must be called in its context.

    :param error: what has been raised, for the teardown functions.
    """
    context = current_context()
    app: Any = context.app
    arguments = (context, error) if ONE_CONTEXT else (error,)
    try:
        app.do_teardown_request(*arguments)
    finally:
        app.do_teardown_appcontext(*arguments)


def log_exception(error: Exception) -> None:
    """Log an exception of the current request as Flask logs a view's."""
    app: Any = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    exc_info = type(error), error, error.__traceback__
    app.log_exception(*((current_context(), exc_info) if ONE_CONTEXT else (exc_info,)))


class Scope:
    """The context of calls that come after the handshake: its request context, pushed again.

    Made while the handshake's own context is current. The calls have its request, its session,
    the context variables that were bound by then, and a ``g`` of their own.

    :param keeps_session: whether the session stays as it was at the handshake; otherwise each
        call has it read from the request's cookie, and from where the app keeps it.
    """

    __slots__ = ("_app", "_g", "_origin", "_pushed", "_variables", "entered")

    def __init__(self, *, keeps_session: bool = True) -> None:
        context = current_context()
        self._app: flask.Flask = context.app
        # A copy, which does not hold the handshake's own g.
        self._origin: Any = context.copy()
        if not keeps_session:
            # Some versions of Flask have a property of that name.
            setattr(self._origin, "_session" if hasattr(context, "_session") else "session", None)
        # Those set by middleware and before_request functions, such as an APM's transaction.
        self._variables = [
            (variable, value)
            for variable, value in contextvars.copy_context().items()
            if not variable.name.startswith(OWN_VARIABLES)
        ] or None
        #: The context that calls run in now, or ``None`` if none is kept.
        self.entered: contextvars.Context | None = None
        self._pushed: Any = None
        self._g: Any = None

    def enter(self) -> contextvars.Context:
        """Return a context in which the request context is pushed.

        To run a function in it is cheap, in any thread; to push again for each call is not. So
        it is kept while calls follow each other, and dropped when the connection is idle.
        """
        self.entered = context = contextvars.Context()
        if self._variables is not None:
            for variable, value in self._variables:
                context.run(variable.set, value)
        self._pushed = self._origin.copy()
        context.run(self._pushed.push)
        # Looked up once: the proxy is slow.
        self._g = context.run(flask.g._get_current_object)
        return context

    def leave(self) -> None:
        """Drop the context: the next call enters a new one."""
        self.entered = self._pushed = self._g = None

    def tear_down(self, error: BaseException | None) -> None:
        """Do what the end of a request does; must be called in the context.

        :param error: what the call has raised, for the teardown functions.
        """
        app: Any = self._app
        try:
            try:
                if app.teardown_request_funcs or REQUEST_LISTENERS:
                    app.do_teardown_request(*self._arguments(error))
            finally:
                if app.teardown_appcontext_funcs or APP_LISTENERS:
                    app.do_teardown_appcontext(*self._arguments(error))
        finally:
            # ``g`` is usually empty, and this is the quickest check.
            if getattr(self._g, "__dict__", True):
                for name in list(self._g):
                    self._g.pop(name)

    def _arguments(self, error: BaseException | None) -> tuple[Any, ...]:
        return (self._pushed, error) if ONE_CONTEXT else (error,)
