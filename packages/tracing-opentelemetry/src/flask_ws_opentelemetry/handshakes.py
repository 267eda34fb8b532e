"""The span of a handshake: from the request to the 101, or to the refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, Status, StatusCode
from werkzeug.wrappers import Request

from .attributes import HANDSHAKE, find_route, read_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Handshake", "Handshakes"]

SWITCHING_PROTOCOLS = 101
#: Statuses from here on are the server's fault.
SERVER_ERRORS = 500


class Headers(Getter["WSGIEnvironment"]):
    """Finds the headers of a request in its environ."""

    def get(self, carrier: WSGIEnvironment, key: str) -> list[str] | None:
        """Return a header's value, in a list."""
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: WSGIEnvironment) -> list[str]:
        """Return the headers' names."""
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


class Handshake:
    """A handshake, and its span.

    It continues the trace that the client has sent; or that of an instrumentation around the app.

    :param tracer: makes the span.
    :param environ: the request.
    """

    def __init__(self, tracer: trace.Tracer, environ: WSGIEnvironment) -> None:
        #: The context around it.
        self.before = context.get_current()
        parent, kind = self.before, SpanKind.INTERNAL
        if not trace.get_current_span().get_span_context().is_valid:
            parent, kind = propagate.extract(environ, self.before, Headers()), SpanKind.SERVER
        self.span = tracer.start_span(
            "WebSocket handshake", parent, kind, read_request(Request(environ))
        )
        #: The context in which the app answers it.
        self.context = trace.set_span_in_context(self.span, parent)

    def describe(self, request: Request) -> None:
        """Say what is known of the request now that it has a route."""
        self.span.set_attributes(read_request(request))
        route = find_route(request)
        if route is not None:
            self.span.update_name(f"WebSocket handshake {route}")

    def end(self, status: int) -> None:
        """End the span; only the first call does so.

        :param status: that of the answer.
        """
        if self.span.is_recording():
            self.span.set_attribute("http.response.status_code", status)
            if status >= SERVER_ERRORS:
                self.span.set_attribute("error.type", str(status))
                self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()

    def fail(self, error: BaseException) -> None:
        """Record an exception."""
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, type(error).__name__))

    def watch(self, start_response: StartResponse) -> Callable[..., Any]:
        """Have the span end when the handshake is refused."""

        def start(status: str, *args: Any, **kwargs: Any) -> Any:
            code = int(status[:3])
            # For a 101, there is the signal, which comes before the handler runs.
            if code != SWITCHING_PROTOCOLS:
                self.end(code)
            return start_response(status, *args, **kwargs)

        return start


class Handshakes:
    """WSGI middleware: a span for each handshake.

    :param app: the application.
    :param tracer: makes the spans.
    """

    def __init__(self, app: WSGIApplication, tracer: trace.Tracer) -> None:
        self._app = app
        self._tracer = tracer

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        if environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return self._app(environ, start_response)
        handshake = environ[HANDSHAKE] = Handshake(self._tracer, environ)
        # Not detached by a token: this may run in another context by then.
        context.attach(handshake.context)
        try:
            return self._app(environ, handshake.watch(start_response))
        except BaseException as error:
            if handshake.span.is_recording():
                handshake.fail(error)
                handshake.end(SERVER_ERRORS)
            raise
        finally:
            context.attach(handshake.before)
