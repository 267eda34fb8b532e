"""Between Flask, middleware around and inside, and the server: WSGI as PEP 3333 has it."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
import wsgiref.validate
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import flask
import pytest
from flask import Flask, request
from tests.support.errors import innermost
from tests.support.memory import MemoryServer, tcp_pair
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import TLS, tls_pair
from werkzeug.debug import DebuggedApplication
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import run_wsgi_app

from flask_ws import Sock, WebSocket, WebSocketView
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.http.takeover import Takeover
from flask_ws.loop import monitor as monitor_module
from flask_ws.loop.pool import thread_pool
from flask_ws.protocol.protocol import Protocol

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    Wrap = Callable[[WSGIApplication], WSGIApplication]

#: The ways of a handshake: on the server's thread, and on one of ours.
WAYS = [
    pytest.param({}, id="inline"),
    pytest.param({"detach": True}, id="detached"),
]
on_both_ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def without_idle_threads() -> Iterator[None]:
    yield
    until(lambda: len(thread_pool()) == 0)


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def make_app(*inside: Wrap) -> Flask:
    """An app with an echo, and middleware between Flask and flask-ws."""
    app = Flask("app")
    app.config["SECRET_KEY"] = "not secret"
    for wrap in inside:
        app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[method-assign, assignment]
    Sock(app).route("/")(echo)
    app.add_url_rule("/http", "http", lambda: "http")
    return app


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# The class of the response


class OtherResponse(flask.Response):
    """As pytest-flask sets one for every test."""


def rebuild(response: flask.Response) -> flask.Response:
    """An after_request function that builds a response of its own."""
    return flask.Response(response.get_data(), response.status_code, dict(response.headers))


def rebuild_without_headers(response: flask.Response) -> flask.Response:
    return flask.Response(status=response.status_code)


def cast(response: flask.Response) -> Any:
    return OtherResponse.force_type(response, request.environ)


@on_both_ways
@pytest.mark.parametrize("after", [rebuild, rebuild_without_headers, cast])
def test_the_response_may_be_another_by_the_end_of_after_request(
    server: MemoryServer, after: Any, way: dict[str, Any]
) -> None:
    app = make_app()
    app.after_request(after)
    peer = server.connect(app, **way)
    assert peer.echo("hello") == "hello"
    peer.close()


@on_both_ways
def test_the_app_may_have_a_response_class(server: MemoryServer, way: dict[str, Any]) -> None:
    app = make_app()
    app.response_class = OtherResponse
    seen: list[flask.Response] = []

    @app.after_request
    def see(response: flask.Response) -> flask.Response:
        seen.append(response)
        return response

    peer = server.connect(app, **way)
    assert peer.echo("hello") == "hello"
    assert isinstance(seen[0], OtherResponse)
    peer.close()


def test_the_response_class_may_change_from_one_request_to_the_next(server: MemoryServer) -> None:
    app = make_app()
    server.connect(app).close()
    app.response_class = OtherResponse
    server.connect(app).close()


@on_both_ways
@pytest.mark.parametrize("headers", [None, []], ids=["handshake", "plain"])
def test_a_101_that_accepts_nothing_is_a_500(
    server: MemoryServer,
    caplog: pytest.LogCaptureFixture,
    headers: Any,
    way: dict[str, Any],
) -> None:
    """A proxy would pass on what follows as a WebSocket."""
    app = make_app()
    app.add_url_rule("/other", "other", lambda: ("", 101))
    app.add_url_rule("/other", "websocket", lambda: ("", 101), websocket=True)

    assert server.refuse(app, "/other", headers=headers, **way).status == 500
    (line,) = errors(caplog)
    assert line.startswith("The app answered GET '/other' with status 101, and has accepted no")


def test_a_refused_handshake_that_is_turned_into_a_101_is_a_500(server: MemoryServer) -> None:
    app = make_app()

    @app.after_request
    def spoil(response: flask.Response) -> flask.Response:
        response.status_code = 101
        return response

    assert server.refuse(app, extra=[("Origin", "http://evil.example")]).status == 500


# Headers of the 101


BAD_HEADERS = [
    pytest.param("X-User", "Łukasz", id="not latin-1"),
    pytest.param("X-User", "a\0b", id="NUL"),
    pytest.param("X-User\r\nX-Other", "a", id="line break in a name"),
    pytest.param("X-User\n", "a", id="line break at the end of a name"),
    pytest.param("X User", "a", id="blank in a name"),
    pytest.param("", "a", id="no name"),
    pytest.param("X-Üser", "a", id="name not ASCII"),
]


@on_both_ways
@pytest.mark.parametrize(("name", "value"), BAD_HEADERS)
def test_a_header_that_cannot_be_sent_is_a_500(
    server: MemoryServer,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    way: dict[str, Any],
) -> None:
    """Before anything has happened to the connection; the log names it, and not its value."""
    app = make_app()
    # One that Flask lets pass.
    app.after_request(lambda response: response.headers._list.append((name, value)) or response)
    response = server.refuse(app, **way)

    assert response.status == 500
    assert "Łukasz" not in response.text
    (line,) = errors(caplog)
    assert line.startswith("WebSocket handshake from 127.0.0.1 for / refused: 500 ")
    assert "Łukasz" not in line


@on_both_ways
def test_a_header_of_middleware_inside_is_checked_as_well(
    server: MemoryServer, way: dict[str, Any]
) -> None:
    def add(app: WSGIApplication) -> WSGIApplication:
        def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            return app(
                environ,
                lambda status, headers, *more: start_response(
                    status, [*headers, ("X-User", "Łukasz")], *more
                ),
            )

        return middleware

    assert server.refuse(make_app(add), **way).status == 500


@on_both_ways
def test_after_a_spoilt_101_no_descriptor_is_left(
    server: MemoryServer, way: dict[str, Any]
) -> None:
    app = make_app()
    app.after_request(lambda response: response.headers.set("X-User", "Łukasz") or response)
    server.refuse(app, **way)
    server.close()
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        server.refuse(app, **way)
        server.close()
    gc.collect()
    until(lambda: len(os.listdir("/dev/fd")) <= before)


@on_both_ways
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Connection", "close"),
        ("connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "5"),
        ("Sec-WebSocket-Accept", "another"),
        ("Sec-WebSocket-Protocol", "another"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ],
)
def test_the_headers_of_the_handshake_are_ours(
    server: MemoryServer, name: str, value: str, way: dict[str, Any]
) -> None:
    app = make_app()

    @app.after_request
    def add(response: flask.Response) -> flask.Response:
        response.headers.add(name, value)
        return response

    call = server.call(app, **way)
    response = server.accepted(call)
    assert value not in [found for _, found in response.headers]
    assert call.peer.echo("hello") == "hello"
    call.peer.close()


# Middleware


def by_name(app: WSGIApplication) -> WSGIApplication:
    """Calls start_response with exc_info, by its name."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: Any, exc_info: Any = None) -> Any:
            return start_response(status, headers, exc_info=exc_info)  # type: ignore[call-arg]

        return app(environ, start)

    return middleware


def generator(app: WSGIApplication) -> WSGIApplication:
    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        iterable = app(environ, start_response)
        try:
            yield from iterable
        finally:
            getattr(iterable, "close", lambda: None)()

    return middleware


def buffering(app: WSGIApplication) -> WSGIApplication:
    """Takes the whole response before it passes anything on."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        chunks, status, headers = run_wsgi_app(app, environ, buffered=True)
        start_response(status, list(headers))
        return chunks

    return middleware


def writing(app: WSGIApplication) -> WSGIApplication:
    """Passes the body on by the callable that start_response returns."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started: list[Callable[[bytes], object]] = []

        def start(*arguments: Any) -> Callable[[bytes], object]:
            started.append(start_response(*arguments))
            return started[-1]

        iterable = app(environ, start)
        for chunk in iterable:
            started[-1](chunk)
        getattr(iterable, "close", lambda: None)()
        return []

    return middleware


def copying(app: WSGIApplication) -> WSGIApplication:
    return lambda environ, start_response: app({**environ}, start_response)


def wrapping(app: WSGIApplication) -> WSGIApplication:
    """Puts another stream in front of the request's body."""

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"] = io.BufferedReader(environ["wsgi.input"])
        return app(environ, start_response)

    return middleware


def debugged(app: WSGIApplication) -> WSGIApplication:
    return DebuggedApplication(app)


MIDDLEWARE = [
    by_name,
    generator,
    buffering,
    writing,
    copying,
    wrapping,
    debugged,
    wsgiref.validate.validator,
    LintMiddleware,
]


@pytest.fixture(
    params=[(wrap, side) for wrap in MIDDLEWARE for side in ("inside", "around")],
    ids=lambda param: f"{param[0].__name__}-{param[1]}",
)
def wrapped(request: pytest.FixtureRequest) -> tuple[Flask, WSGIApplication]:
    """An app with middleware inside or around; and what a server would call."""
    wrap, side = request.param
    app = make_app(*([wrap] if side == "inside" else []))
    return app, app if side == "inside" else wrap(app)


@on_both_ways
def test_a_handler_works_with_middleware(
    server: MemoryServer,
    wrapped: tuple[Flask, WSGIApplication],
    way: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = server.call(wrapped[1], **way)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    call.peer.close()

    assert call.wait() == b""
    assert call.status == "101 Switching Protocols"
    until(lambda: len(thread_pool()) == 0)
    gc.collect()
    assert errors(caplog) == []
    assert capsys.readouterr().err == ""


@on_both_ways
def test_an_event_view_works_with_middleware(
    server: MemoryServer, wrapped: tuple[Flask, WSGIApplication], way: dict[str, Any]
) -> None:
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)

    Sock(wrapped[0]).route("/view")(View)
    call = server.call(wrapped[1], "/view", **way)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    call.peer.close()
    assert call.wait() == b""


@on_both_ways
def test_a_refusal_works_with_middleware(
    server: MemoryServer, wrapped: tuple[Flask, WSGIApplication], way: dict[str, Any]
) -> None:
    response = server.refuse(wrapped[1], extra=[("Origin", "http://evil.example")], **way)
    assert (response.status, "<title>403" in response.text) == (403, True)


@on_both_ways
def test_plain_http_works_with_middleware(
    server: MemoryServer, wrapped: tuple[Flask, WSGIApplication], way: dict[str, Any]
) -> None:
    assert server.refuse(wrapped[1], "/http", headers=[], **way).text == "http"


@on_both_ways
def test_the_last_place_may_be_taken_behind_middleware(
    server: MemoryServer, wrapped: tuple[Flask, WSGIApplication], way: dict[str, Any]
) -> None:
    """By then a 101 was on its way, and is taken back."""
    app, outer = wrapped
    app.config["SOCK_MAX_CONNECTIONS"] = 1
    taken: list[Any] = []

    @app.after_request
    def take(response: flask.Response) -> flask.Response:
        if response.status_code == 101 and not taken:
            taken.append(None)
            taken.append(server.connect(app, "/"))
        return response

    assert server.refuse(outer, **way).status == 503
    taken[1].close()


def checked(app: WSGIApplication) -> WSGIApplication:
    return wsgiref.validate.validator(LintMiddleware(app))


@on_both_ways
def test_checkers_find_no_fault(server: MemoryServer, way: dict[str, Any]) -> None:
    """On both sides at once; pytest makes errors of their warnings."""
    app = checked(make_app(checked))
    call = server.call(app, **way)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    call.peer.close()
    call.wait()


@on_both_ways
def test_middleware_inside_sees_the_status_when_the_handler_begins(
    server: MemoryServer, way: dict[str, Any]
) -> None:
    """A trace has it then, however long the connection lives."""
    statuses: list[str] = []

    def trace(app: WSGIApplication) -> WSGIApplication:
        def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            def start(status: str, *more: Any) -> Any:
                statuses.append(status)
                return start_response(status, *more)

            return app(environ, start)

        return middleware

    peer = server.connect(make_app(trace), **way)
    assert peer.echo("hello") == "hello"
    assert [status.lower() for status in statuses] == ["101 switching protocols"]
    peer.close()


@on_both_ways
def test_a_handler_sees_what_middleware_puts_into_a_copied_environ(
    server: MemoryServer, way: dict[str, Any]
) -> None:
    def log_in(app: WSGIApplication) -> WSGIApplication:
        return lambda environ, start_response: app(
            {**environ, "REMOTE_USER": "ada"}, start_response
        )

    app = make_app(log_in)

    @Sock(app).route("/user")
    def tell(ws: WebSocket) -> None:
        ws.receive()
        ws.send_json([request.remote_user, ws.environ["REMOTE_USER"]])

    peer = server.connect(app, "/user", **way)
    assert peer.echo("who?") == '["ada", "ada"]'


@on_both_ways
def test_headers_of_middleware_inside_are_on_the_101(
    server: MemoryServer, way: dict[str, Any]
) -> None:
    def add(app: WSGIApplication) -> WSGIApplication:
        def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            def start(status: str, headers: Any, *more: Any) -> Any:
                return start_response(status, [*headers, ("X-Trace", "5")], *more)

            return app(environ, start)

        return middleware

    call = server.call(make_app(add), **way)
    assert server.accepted(call).get("X-Trace") == "5"
    call.peer.close()


@on_both_ways
def test_an_app_may_be_within_another(server: MemoryServer, way: dict[str, Any]) -> None:
    """Each has its Sock, and one connection is opened."""
    inner = make_app()
    outer = make_app(lambda app: inner.wsgi_app)
    peer = server.connect(outer, **way)
    assert peer.echo("hello") == "hello"
    peer.close()


@on_both_ways
def test_an_app_may_be_asked_after_another(server: MemoryServer, way: dict[str, Any]) -> None:
    """As a cascade does that asks the next one after a 404."""
    first, second = Flask("first"), make_app()
    Sock(first)

    def cascade(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        statuses: list[str] = []
        keep: Any = lambda status, *_: statuses.append(status)  # noqa: E731
        iterable: Any = first(environ, keep)
        b"".join(iterable)
        iterable.close()
        assert [status.lower() for status in statuses] == ["404 not found"]
        return second(environ, start_response)

    peer = server.connect(cascade, **way)
    assert peer.echo("hello") == "hello"
    peer.close()


@on_both_ways
def test_an_error_after_the_connection_does_not_become_another_response(
    server: MemoryServer, way: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Middleware inside tries; the client has its 101."""

    def explain(app: WSGIApplication) -> WSGIApplication:
        def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            try:
                return app(environ, start_response)
            except Exception:
                start_response("500 Internal Server Error", [], sys.exc_info())
                return [b"sorry"]

        return middleware

    app = make_app(explain)

    @app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise RuntimeError("failed on purpose")

    call = server.call(app, pair=tcp_pair(), **way)
    server.accepted(call)
    call.peer.close()
    until(lambda: len(thread_pool()) == 0)
    if way:
        call.wait()
        assert "An error after the end of a WebSocket handler" in errors(caplog)
    else:
        with pytest.raises(Exception) as raised:  # noqa: PT011
            call.wait()
        assert str(innermost(raised.value)) == "failed on purpose"


# The body of the request


@on_both_ways
@pytest.mark.parametrize("ask", ["get_data", "form", "stream"])
def test_a_handshake_has_an_empty_body(server: MemoryServer, ask: str, way: dict[str, Any]) -> None:
    """Whatever the server's own reader would do: wait for the client, or take its frames."""
    app = make_app()

    def read() -> None:
        found = getattr(request, ask)
        if callable(found):
            found = found()
        if hasattr(found, "read"):
            found = found.read()
        assert not found

    app.before_request(read)

    @Sock(app).route("/read")
    def handler(ws: WebSocket) -> None:
        read()
        request.environ["wsgi.input"].read()
        ws.send(ws.receive())

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            raise AssertionError("the server's reader was asked")

        readinto = read = readline = readable  # type: ignore[assignment]

    call = server.call(app, "/read", environ={"wsgi.input": Endless()}, **way)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"


def test_other_libraries_find_the_socket_where_the_server_put_it(server: MemoryServer) -> None:
    app = make_app()
    reader = io.BufferedReader(io.BytesIO())
    app.before_request(lambda: str(request.environ["wsgi.input"].raw is reader.raw))

    assert server.refuse(app, environ={"wsgi.input": reader}).text == "True"


# Every way out


class Stop(BaseException):
    """Ctrl-C, a greenlet's end, the timeout of a green server."""


STEPS = [
    pytest.param(Takeover, "take", id="taking it"),
    pytest.param(Protocol, "__init__", id="making the protocol"),
    pytest.param(Connection, "begin", id="sending the 101"),
    pytest.param(monitor_module.Monitor, "add", id="watching over it"),
]


@pytest.mark.parametrize("error", [Stop, OSError, RuntimeError, MemoryError])
@pytest.mark.parametrize(("owner", "step"), STEPS)
@pytest.mark.parametrize("kind", ["plain", "TLS"])
@on_both_ways
def test_whatever_stops_a_handshake_leaves_no_descriptor_behind(
    server: MemoryServer,
    monkeypatch: pytest.MonkeyPatch,
    way: dict[str, Any],
    owner: type,
    step: str,
    kind: str,
    tls: TLS,
    error: type[BaseException],
) -> None:
    """Nor does it close another's, that has the number by now."""
    app = make_app()
    before = len(os.listdir("/dev/fd"))

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, fail)
        call = server.call(app, pair=tls_pair(tls) if kind == "TLS" else tcp_pair(), **way)
        if way or step != "take":
            call.ended.exception(PATIENCE)
        call.peer.sock.close()
        call.ended.exception(PATIENCE)
        until(lambda: len(thread_pool()) == 0)
    server.calls.clear()
    del call
    # What has their numbers now, nobody else closes.
    others = [end for _ in range(4) for end in tcp_pair()]
    gc.collect()
    for end in others:
        os.fstat(end.fileno())
        end.close()
    until(lambda: len(os.listdir("/dev/fd")) <= before)
    assert len(monitor_module.monitor_for(threads)) == 0
