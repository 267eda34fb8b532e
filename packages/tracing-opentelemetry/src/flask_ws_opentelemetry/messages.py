"""The spans of messages, on routes that ask for them."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any, TypeVar

import flask
from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from flask_ws import ConnectionClosed

from .attributes import find_route
from .connections import current_connection

__all__ = ["EXTENSION", "trace_messages"]

#: Where an app keeps its :class:`.WebSocketTelemetry`.
EXTENSION = "flask_ws_opentelemetry"
#: The attribute of a handler's ``ws`` for the span of its last message.
ATTRIBUTE = "_flask_ws_opentelemetry"

T = TypeVar("T")


class Messages:
    """The spans of a connection's messages: each a trace of its own, linked to the connection.

    :param tracer: makes them.
    :param connection: the connection's span.
    """

    def __init__(self, tracer: trace.Tracer, connection: Span) -> None:
        self._tracer = tracer
        self._links = [Link(connection.get_span_context())]
        self._context = context.get_current()
        self._span: Span | None = None
        self._route = find_route(flask.request) or ""

    def begin(self, message: str | bytes) -> None:
        """Begin the span of a message, and make it the current one."""
        attributes: dict[str, str | int] = {
            "http.route": self._route,
            "websocket.message.type": "text" if isinstance(message, str) else "binary",
            "websocket.message.length": len(message),
        }
        self._span = self._tracer.start_span(
            f"WebSocket message {self._route}",
            context.Context(),
            SpanKind.SERVER,
            attributes,
            self._links,
        )
        # Not detached by a token: another task may receive the next message.
        context.attach(trace.set_span_in_context(self._span, self._context))

    def end(self, error: Exception | None = None) -> None:
        """End the span of the last message, if there is one.

        :param error: what its handling has raised.
        """
        if self._span is None:
            return
        if error is not None and not isinstance(error, ConnectionClosed):
            self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._span.end()
        self._span = None
        context.attach(self._context)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.end(error)
            raise
        finally:
            self.end()

    @contextlib.contextmanager
    def one(self, message: str | bytes) -> Iterator[None]:
        """Handle a message in a span of its own."""
        self.begin(message)
        with self._ending():
            yield

    @contextlib.contextmanager
    def received_by(self, ws: Any) -> Iterator[None]:
        """Have spans for what is received: each until the next is, or until the handler ends."""
        setattr(ws, ATTRIBUTE, self)
        kind: Any = type(ws)
        ws.__class__ = tracing(kind)
        with self._ending():
            yield


def find_messages() -> Messages | None:
    """Return what makes the spans of the current connection's messages, if its app has any."""
    telemetry, connection = flask.current_app.extensions.get(EXTENSION), current_connection()
    if telemetry is None or connection is None:
        return None
    return Messages(telemetry.tracer, connection)


def trace_messages(handler: T) -> T:
    """Have a span for each message that a handler or an event view receives; a decorator.

    ::

        @sock.route("/chat")
        @trace_messages
        def chat(ws):
            ...

    The span of a message is the current one while it is handled: in an event view while
    ``on_message`` runs; in a handler until it receives the next message. It begins a trace of its
    own, which is linked to the connection's span. It does nothing in an app without
    :class:`WebSocketTelemetry`.

    :param handler: a handler, or the class of an event view, which is changed.
    :return: what takes its place below ``@sock.route`` or ``@sock.view``.
    """
    traced: Any
    if isinstance(handler, type):
        view: Any = handler
        view.on_message = trace_method(view.on_message)
        return handler
    function: Any = handler
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def traced(ws: Any, *args: Any, **kwargs: Any) -> Any:
            messages = find_messages()
            if messages is None:
                return await function(ws, *args, **kwargs)
            with messages.received_by(ws):
                return await function(ws, *args, **kwargs)
    else:

        @functools.wraps(function)
        def traced(ws: Any, *args: Any, **kwargs: Any) -> Any:
            messages = find_messages()
            if messages is None:
                return function(ws, *args, **kwargs)
            with messages.received_by(ws):
                return function(ws, *args, **kwargs)

    result: T = traced
    return result


def trace_method(on_message: Any) -> Any:
    """Have a span for each call of ``on_message``."""
    call: Any
    if inspect.iscoroutinefunction(on_message):

        @functools.wraps(on_message)
        async def call(self: Any, ws: Any, message: str | bytes) -> Any:
            messages = find_messages()
            if messages is None:
                return await on_message(self, ws, message)
            with messages.one(message):
                return await on_message(self, ws, message)
    else:

        @functools.wraps(on_message)
        def call(self: Any, ws: Any, message: str | bytes) -> Any:
            messages = find_messages()
            if messages is None:
                return on_message(self, ws, message)
            with messages.one(message):
                return on_message(self, ws, message)

    return call


@functools.cache
def tracing(kind: type) -> type:
    """Derive a class of ``ws`` that has a span for each message that it receives."""
    base: Any = kind

    def receive(self: Any, timeout: float | None = None) -> Any:
        messages: Messages = getattr(self, ATTRIBUTE)
        messages.end()
        message = base.receive(self, timeout)
        if message is not None:
            messages.begin(message)
        return message

    def iterate(self: Any) -> Iterator[str | bytes]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield self.receive()

    async def receive_async(self: Any, timeout: float | None = None) -> Any:
        messages: Messages = getattr(self, ATTRIBUTE)
        messages.end()
        message = await base.receive(self, timeout)
        if message is not None:
            messages.begin(message)
        return message

    async def receive_next(self: Any) -> Any:
        messages: Messages = getattr(self, ATTRIBUTE)
        messages.end()
        message = await base.__anext__(self)
        messages.begin(message)
        return message

    methods: dict[str, Any] = {"receive": receive, "__iter__": iterate}
    if hasattr(kind, "__anext__"):
        methods = {"receive": receive_async, "__anext__": receive_next}
    return type(kind.__name__, (kind,), {**methods, "__slots__": (), "__module__": kind.__module__})
