"""What OpenTelemetry is told of an app's WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, abort
from opentelemetry import baggage, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.memory import MemoryServer
from tests.support.numbers import make_stats
from tests.support.waiting import until

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    Sock,
    WebSocket,
    WebSocketView,
)
from flask_ws.testing import HandshakeRefused, connect
from flask_ws_opentelemetry import WebSocketTelemetry, trace_messages

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "baggage": "tenant=seven"}


class Recorded:
    """The spans that have ended, and the metrics."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader])

    def all(self, name: str) -> list[ReadableSpan]:
        """The spans of a name."""
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def span(self, name: str) -> ReadableSpan:
        """The span of a name, when it has ended; there is no second."""
        until(lambda: bool(self.all(name)))
        (span,) = self.all(name)
        return span

    def metric(self, name: str) -> dict[tuple[tuple[str, Any], ...], Any]:
        """The points of a metric, by their attributes."""
        data: Any = self._reader.get_metrics_data()
        return {
            tuple(sorted(point.attributes.items())): getattr(point, "value", None) or point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == f"flask_ws.server.{name}"
            for point in metric.data.data_points
        }


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    recorded = Recorded()
    yield recorded
    recorded.tracers.shutdown()
    recorded.meters.shutdown()


@pytest.fixture(autouse=True)
def telemetry(app: Flask, recorded: Recorded) -> WebSocketTelemetry:
    return WebSocketTelemetry(app, tracer_provider=recorded.tracers, meter_provider=recorded.meters)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def link(span: ReadableSpan) -> Any:
    """The context of the span that a span is linked to."""
    (found,) = span.links
    return found.context


def inner(name: str) -> None:
    """What an instrumentation of a library does while a handler runs."""
    trace.get_tracer("library", tracer_provider=Kept.tracers).start_span(name).end()


class Kept:
    """The provider of an instrumentation."""

    tracers: TracerProvider | None = None


@pytest.fixture(autouse=True)
def library(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kept, "tracers", recorded.tracers)


# Handlers of all kinds


def echo(ws: WebSocket) -> None:
    for message in ws:
        inner("query")
        ws.send(message)


class Echo(WebSocketView):
    """Sends back what it receives."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        inner("query")
        ws.send(message)


async def echo_async(ws: AsyncWebSocket) -> None:
    async for message in ws:
        inner("query")
        await ws.send(message)


class AsyncEcho(AsyncWebSocketView):
    """Sends back what it receives, too."""

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await asyncio.sleep(0)
        inner("query")
        await ws.send(message)


def receiving(ws: WebSocket) -> None:
    while True:
        ws.send_json(ws.receive_json(timeout=30))
        inner("query")


async def receiving_async(ws: AsyncWebSocket) -> None:
    while True:
        message = await ws.receive()
        inner("query")
        await ws.send(message)


KINDS = [echo, Echo, echo_async, AsyncEcho]
every_kind = pytest.mark.parametrize("handler", KINDS)


def talk(app: Flask, *messages: str, path: str = "/feed", **options: Any) -> None:
    with connect(app, path, **options) as ws:
        for message in messages:
            ws.send(message)
            assert ws.receive() == message
        ws.close(4000, "enough")


# Spans


@every_kind
def test_a_handshake_continues_the_trace_of_its_client(
    app: Flask, sock: Sock, recorded: Recorded, handler: Any
) -> None:
    sock.route("/feed")(handler)
    talk(app, headers=TRACEPARENT)
    span = recorded.span("WebSocket handshake /feed")
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.kind is SpanKind.SERVER
    assert attributes(span)["http.response.status_code"] == 101


@every_kind
def test_a_connection_begins_a_trace_that_is_linked_to_its_handshake(
    app: Flask, sock: Sock, recorded: Recorded, handler: Any
) -> None:
    sock.route("/feed")(handler)
    talk(app, "1", headers=TRACEPARENT)
    span = recorded.span("WebSocket /feed")
    assert span.parent is None
    assert link(span) == recorded.span("WebSocket handshake /feed").context
    assert span.start_time
    assert span.end_time


@every_kind
def test_a_connection_has_the_attributes_of_its_request_and_of_its_end(
    app: Flask, sock: Sock, recorded: Recorded, handler: Any
) -> None:
    sock.route("/feed", endpoint="feed", compression=False)(handler)
    talk(
        app,
        "hello",
        path="/feed?token=secret",
        headers={"User-Agent": "browser", "Host": "example.com:8000"},
    )
    found = attributes(recorded.span("WebSocket /feed"))
    assert len(found.pop("websocket.connection.id")) == 12
    assert found == {
        "http.request.method": "GET",
        "http.route": "/feed",
        "url.scheme": "http",
        "url.path": "/feed",
        "client.address": "127.0.0.1",
        "server.address": "example.com",
        "server.port": 8000,
        "user_agent.original": "browser",
        "flask.endpoint": "feed",
        "websocket.close.code": 4000,
        "websocket.close.reason": "enough",
        "websocket.messages.in": 1,
        "websocket.messages.out": 1,
        "websocket.bytes.in": found["websocket.bytes.in"],
        "websocket.bytes.out": found["websocket.bytes.out"],
    }


@every_kind
def test_what_a_handler_does_belongs_to_its_connection(
    app: Flask, sock: Sock, recorded: Recorded, handler: Any
) -> None:
    sock.route("/feed")(handler)
    talk(app, "1")
    assert recorded.span("query").parent == recorded.span("WebSocket /feed").context


def test_a_handler_has_the_baggage_of_its_client(app: Flask, sock: Sock) -> None:
    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        ws.send(str(baggage.get_baggage("tenant")))

    with connect(app, "/feed", headers=TRACEPARENT) as ws:
        assert ws.receive() == "seven"


def test_a_handshake_within_the_span_of_another_instrumentation_is_its_child(
    app: Flask, sock: Sock, recorded: Recorded
) -> None:
    application = app.wsgi_app

    def instrumented(environ: Any, start_response: Any) -> Any:
        tracer = recorded.tracers.get_tracer("around")
        with tracer.start_as_current_span("GET"):
            return application(environ, start_response)

    app.wsgi_app = instrumented  # type: ignore[method-assign]
    sock.route("/feed")(echo)
    talk(app, headers=TRACEPARENT)
    span = recorded.span("WebSocket handshake /feed")
    assert span.parent == recorded.span("GET").context
    assert span.kind is SpanKind.INTERNAL


def test_a_refused_handshake_says_why(app: Flask, sock: Sock, recorded: Recorded) -> None:
    @app.before_request
    def guard() -> None:
        abort(401)

    sock.route("/feed")(echo)
    with pytest.raises(HandshakeRefused), connect(app, "/feed"):
        pass
    span = recorded.span("WebSocket handshake /feed")
    assert attributes(span)["http.response.status_code"] == 401
    assert "by the app" in attributes(span)["websocket.refusal.reason"]
    # It is the client's fault.
    assert span.status.status_code is StatusCode.UNSET


def test_a_handshake_that_fails_has_the_error(
    app: Flask, sock: Sock, server: MemoryServer, recorded: Recorded
) -> None:
    @app.before_request
    def guard() -> None:
        raise ValueError("a fault of the guard")

    sock.route("/feed")(echo)
    assert server.refuse(app, "/feed").status == 500
    span = recorded.span("WebSocket handshake /feed")
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


@pytest.mark.parametrize("is_class", [False, True])
def test_a_connection_has_the_error_of_its_handler(
    app: Flask, sock: Sock, recorded: Recorded, is_class: bool
) -> None:
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ValueError("a fault of the view")

    def handler(ws: WebSocket) -> None:
        ws.receive()
        raise ValueError("a fault of the handler")

    sock.route("/feed", endpoint="feed")(View if is_class else handler)
    with pytest.raises(ValueError, match="a fault"):
        talk(app, "hello")
    span = recorded.span("WebSocket /feed")
    assert span.status.status_code is StatusCode.ERROR
    assert [dict(event.attributes or {})["exception.type"] for event in span.events] == [
        "ValueError"
    ]


def test_http_requests_have_no_span(app: Flask, recorded: Recorded) -> None:
    app.add_url_rule("/", view_func=lambda: "hello")
    assert app.test_client().get("/").data == b"hello"
    assert recorded._exporter.get_finished_spans() == ()


def test_the_next_request_of_a_thread_is_in_no_span(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/feed")(lambda ws: None)
    before = trace.get_current_span()
    server.connect(app, "/feed", detach=False).answer_close()
    assert trace.get_current_span() is before


# Messages


@pytest.mark.parametrize("handler", [*KINDS, receiving, receiving_async])
def test_a_message_has_a_trace_that_is_linked_to_its_connection(
    app: Flask, sock: Sock, recorded: Recorded, handler: Any
) -> None:
    traced = type("Traced", (handler,), {}) if isinstance(handler, type) else handler
    sock.route("/feed")(trace_messages(traced))
    talk(app, "1", "22")
    connection = recorded.span("WebSocket /feed")
    until(lambda: len(recorded.all("WebSocket message /feed")) == 2)
    spans = recorded.all("WebSocket message /feed")
    assert [link(span) for span in spans] == [connection.context] * 2
    assert [span.parent for span in spans] == [None, None]
    assert len({span.context.trace_id for span in (*spans, connection)}) == 3
    assert [attributes(span)["websocket.message.length"] for span in spans] == [1, 2]
    assert [span.parent for span in recorded.all("query")] == [span.context for span in spans]


def fail(ws: WebSocket) -> None:
    ws.receive()
    raise ValueError("a fault of the handler")


class Fail(WebSocketView):
    """Fails."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        raise ValueError("a fault of the view")


async def fail_async(ws: AsyncWebSocket) -> None:
    await ws.receive()
    raise ValueError("a fault of the handler")


@pytest.mark.parametrize("handler", [fail, Fail, fail_async])
def test_a_message_that_fails_has_the_error(
    app: Flask, sock: Sock, recorded: Recorded, handler: Any
) -> None:
    sock.route("/feed")(trace_messages(handler))
    with pytest.raises(ValueError, match="a fault"):
        talk(app, "hello")
    assert recorded.span("WebSocket message /feed").status.status_code is StatusCode.ERROR


def test_a_limited_route_has_spans_too(app: Flask, sock: Sock, recorded: Recorded) -> None:
    sock.route("/feed", rate="100/s")(trace_messages(receiving))
    talk(app, "1")
    recorded.span("WebSocket message /feed")


def test_an_app_without_telemetry_has_no_spans(recorded: Recorded) -> None:
    other = Flask("other")
    Sock(other).route("/feed")(trace_messages(echo))
    talk(other, "1")
    assert recorded.all("WebSocket message /feed") == []


def test_a_decorated_handler_keeps_its_name_and_its_variables(app: Flask, sock: Sock) -> None:
    @sock.route("/feed/<name>")
    @trace_messages
    def feed(ws: WebSocket, name: str) -> None:
        ws.send(name)

    assert "feed" in app.view_functions
    with connect(app, "/feed/one") as ws:
        assert ws.receive() == "one"


# Metrics


def test_every_message_is_counted(app: Flask, sock: Sock, recorded: Recorded) -> None:
    sock.route("/feed", endpoint="feed")(echo)
    route = ("flask.endpoint", "feed"), ("http.route", "/feed")
    received, sent_out = (
        (*route, ("network.io.direction", direction)) for direction in ("receive", "transmit")
    )
    with connect(app, "/feed") as ws:
        for number in range(5):
            ws.send(str(number))
            ws.receive()
        assert recorded.metric("active_connections")[route] == 1
        assert recorded.metric("messages")[received] == 5
        # Collected again: as many in all.
        assert recorded.metric("messages")[received] == 5
        ws.close(4000)
    until(lambda: sock.stats(app).routes["feed"].closed == {4000: 1})
    sent = sock.stats(app).routes["feed"].bytes_out
    assert recorded.metric("io")[sent_out] == sent > 5 * 3
    assert recorded.metric("connections")[route] == 1


def test_the_end_of_a_connection_is_counted_by_its_code(
    app: Flask, sock: Sock, recorded: Recorded
) -> None:
    sock.route("/feed")(echo)
    talk(app)
    key = ("flask.endpoint", "echo"), ("websocket.close.code", 4000)
    until(lambda: key in recorded.metric("connection.duration"))
    assert recorded.metric("connection.duration")[key].count == 1


@pytest.mark.usefixtures("sock")
def test_refusals_are_counted_by_status(app: Flask, recorded: Recorded) -> None:
    with pytest.raises(HandshakeRefused), connect(app, "/nowhere"):
        pass
    key = (("http.response.status_code", 404),)
    assert recorded.metric("refused_handshakes")[key] == 1
    # What has no route has no connections either.
    assert recorded.metric("active_connections") == {}


def test_channels_are_counted(app: Flask, sock: Sock, recorded: Recorded) -> None:
    with app.app_context():
        sock.publish("news", "hello")
    assert recorded.metric("publications")[()] == 1
    assert recorded.metric("broker_connected")[()] == 1


@pytest.mark.usefixtures("telemetry")
def test_every_number_of_the_process_is_told(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats, numbers = make_stats()
    monkeypatch.setattr(Sock, "stats", lambda self, app: stats)
    for name, number in numbers.items():
        assert recorded.metric(name)[()] == number
    assert recorded.metric("draining")[()] == 1


def test_the_numbers_are_read_once_for_a_collection(
    app: Flask, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., Any] = Sock.stats
    reads: list[object] = []

    def count(self: Sock, app: Flask) -> Any:
        reads.append(app)
        return read(self, app)

    monkeypatch.setattr(Sock, "stats", count)
    for number in (1, 2):
        recorded.metric("publications")
        assert len(reads) == number


def test_one_object_is_for_one_app(app: Flask, telemetry: WebSocketTelemetry) -> None:
    with pytest.raises(RuntimeError, match="for one app"):
        telemetry.init_app(Flask("another"))
    with pytest.raises(RuntimeError, match="for one app"):
        WebSocketTelemetry(app)
