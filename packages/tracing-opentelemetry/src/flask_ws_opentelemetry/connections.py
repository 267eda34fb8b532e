"""The span of a connection: from the 101 to its end."""

from __future__ import annotations

from typing import Any

import flask
from opentelemetry import context, trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from flask_ws import AsyncWebSocket, WebSocket

from .attributes import HANDSHAKE, find_route, read_request
from .handshakes import Handshake

__all__ = ["Connections", "current_connection"]

INTERNAL_ERROR = 1011
#: What a connection's context has: its span, also where that of a message is the current one.
CONNECTION = context.create_key("flask_ws.connection")


def current_connection() -> Span | None:
    """Return the span of the connection that the code runs for, if there is one."""
    found = context.get_value(CONNECTION)
    return found if isinstance(found, Span) else None


class Connections:
    """The spans of an app's connections. Each begins a trace of its own, linked to the handshake.

    A connection's span is the current one while its handler runs, or a method of an event view.

    :param tracer: makes them.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        # By the connections' ids: the span, and the context around the handshake.
        self._open: dict[str, tuple[Span, context.Context]] = {}

    # Receivers of signals; those of the beginning run where the handler will

    def note_start(
        self, sender: object, ws: WebSocket | AsyncWebSocket, endpoint: str, **_: Any
    ) -> None:
        """Begin a connection's span."""
        request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
        handshake: Handshake | None = request.environ.pop(HANDSHAKE, None)
        attributes = read_request(request)
        route = find_route(request) or endpoint
        links = []
        if handshake is not None:
            handshake.describe(request)
            links = [Link(handshake.span.get_span_context())]
        attributes |= {"websocket.connection.id": ws.id, "flask.endpoint": endpoint}
        if ws.subprotocol is not None:
            attributes["websocket.subprotocol"] = ws.subprotocol
        span = self._tracer.start_span(
            f"WebSocket {route}", context.Context(), SpanKind.SERVER, attributes, links
        )
        before = context.Context()
        if handshake is not None:
            handshake.end(101)
            before = handshake.before
        self._open[ws.id] = span, before
        # The rest of the current context, such as its baggage, stays.
        inner = context.set_value(CONNECTION, span)
        context.attach(trace.set_span_in_context(span, inner))

    def note_end(self, sender: object, code: int, reason: str, **facts: Any) -> None:
        """End a connection's span."""
        found = self._open.pop(facts["id"], None)
        if found is None:
            return
        span, before = found
        if current_connection() is span:
            # The thread serves others after this.
            context.attach(before)
        span.set_attribute("websocket.close.code", code)
        if reason:
            span.set_attribute("websocket.close.reason", reason)
        for name in ("messages_in", "messages_out", "bytes_in", "bytes_out"):
            span.set_attribute("websocket." + name.replace("_", "."), facts[name])
        if code == INTERNAL_ERROR:
            span.set_status(Status(StatusCode.ERROR, "1011"))
            span.set_attribute("error.type", "1011")
        span.end()

    def note_refusal(self, sender: object, reason: str, **_: Any) -> None:
        """Say why a handshake is refused; its span ends with the response."""
        handshake: Handshake | None = flask.request.environ.get(HANDSHAKE)
        if handshake is not None:
            handshake.describe(flask.request)
            handshake.span.set_attribute("websocket.refusal.reason", reason)

    def note_exception(self, sender: object, exception: BaseException, **_: Any) -> None:
        """Record what a handler, a method of an event view or a view has raised."""
        span = current_connection()
        if span is not None:
            span.record_exception(exception)
            return
        handshake: Handshake | None = flask.request.environ.get(HANDSHAKE)
        if handshake is not None:
            handshake.fail(exception)
