from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import flask
import pytest
from flask import Flask, g, request, session
from tests.support.memory import MemoryServer
from tests.support.raw import Peer
from tests.support.waiting import PATIENCE, until
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.wsgi import ClosingIterator

from flask_ws import Sock, WebSocket, WebSocketView
from flask_ws.loop import pool
from flask_ws.loop.pool import ThreadPool

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

THREAD = "flask_ws.handler"


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> ThreadPool:
    """No threads of other tests."""
    threads = ThreadPool()
    monkeypatch.setitem(pool._pools._made, None, threads)
    return threads


@pytest.fixture
def connect(server: MemoryServer, app: Flask) -> Callable[..., Peer]:
    def connect(target: str = "/", **kwargs: Any) -> Peer:
        return server.connect(app, target, detach=True, **kwargs)

    return connect


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def here() -> str:
    return threading.current_thread().name


# The thread


def test_a_handler_runs_on_a_thread_of_its_own(sock: Sock, connect: Callable[..., Peer]) -> None:
    @sock.route("/")
    def name(ws: WebSocket) -> None:
        ws.send(here())

    assert connect().read() == THREAD


def test_the_server_has_its_worker_back_while_the_handler_runs(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(echo)
    call = server.call(app, detach=True)
    server.accepted(call)

    assert call.wait() == b""
    assert call.status.startswith("101 ")
    assert call.peer.echo("hello") == "hello"


def test_the_server_writes_its_101_to_nobody(app: Flask, sock: Sock, server: MemoryServer) -> None:
    sock.route("/")(echo)
    call = server.call(app, detach=True)
    server.accepted(call)
    call.wait()
    call.peer.send("hello")

    assert call.peer.read() == "hello"
    call.peer.close()


def test_a_plain_request_stays_on_the_servers_thread(app: Flask, server: MemoryServer) -> None:
    Sock(app)
    app.add_url_rule("/", view_func=here)
    call = server.call(app, headers=[], detach=True)

    assert call.wait() != THREAD.encode()


def test_a_handler_stays_where_the_server_has_threads_for_all(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    def name(ws: WebSocket) -> None:
        ws.send(here())

    assert server.connect(app, detachable=True).read() != THREAD


def test_the_app_can_keep_handlers_in_the_worker(
    app: Flask, sock: Sock, connect: Callable[..., Peer]
) -> None:
    app.config["SOCK_DETACH"] = False

    @sock.route("/")
    def name(ws: WebSocket) -> None:
        ws.send(here())

    assert connect().read() != THREAD


@pytest.mark.parametrize("by", ["app", "route"])
def test_a_handler_that_is_not_detached_holds_its_worker(
    app: Flask, sock: Sock, server: MemoryServer, by: str
) -> None:
    if by == "app":
        app.config["SOCK_DETACH"] = False
        sock.route("/")(echo)
    else:
        sock.route("/", detach=False)(echo)
    call = server.call(app, detach=True)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    assert not call.ended.done()

    call.peer.close()
    call.wait()


def test_the_thread_ends_with_the_handler(
    sock: Sock, connect: Callable[..., Peer], threads: ThreadPool
) -> None:
    sock.route("/")(echo)
    peer = connect()
    assert len(threads) == 1
    peer.close()

    until(lambda: len(threads) == 0)


def test_a_handler_that_asks_for_the_end_of_its_thread_says_goodbye(
    sock: Sock, connect: Callable[..., Peer], threads: ThreadPool
) -> None:
    @sock.route("/")
    def leave(ws: WebSocket) -> None:
        raise SystemExit

    assert connect().answer_close().close_code == 1001
    until(lambda: len(threads) == 0)


# What the handler finds


def test_what_before_request_left_is_there(
    app: Flask, sock: Sock, connect: Callable[..., Peer]
) -> None:
    """In ``g``, the session, a thread-local and a context variable."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    local = threading.local()

    @app.before_request
    def leave() -> None:
        g.word = "g"
        session["word"] = "session"
        local.word = "thread-local"
        variable.set("context variable")

    @sock.route("/")
    def tell(ws: WebSocket) -> None:
        ws.send_json([g.word, session["word"], local.word, variable.get()])

    assert connect().read() == '["g", "session", "thread-local", "context variable"]'


def test_the_request_is_there(sock: Sock, connect: Callable[..., Peer]) -> None:
    @sock.route("/<room>", endpoint="room")
    def tell(ws: WebSocket, room: str) -> None:
        ws.send_json([request.path, request.args["tag"], room, flask.url_for("room", room="other")])

    answer = connect("/lobby?tag=t1").read()
    assert answer == '["/lobby", "t1", "lobby", "ws://localhost/other"]'


def test_a_body_can_be_asked_for_and_there_is_none(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """Although the server's reader is not there any more."""

    @sock.route("/")
    def tell(ws: WebSocket) -> None:
        ws.receive()
        ws.send_json([request.form.get("a"), request.get_data(as_text=True)])

    call = server.call(app, detach=True)
    server.accepted(call)
    call.wait()
    assert call.peer.echo("go on") == '[null, ""]'


def test_a_context_variable_of_outer_middleware_is_there(
    app: Flask, sock: Sock, connect: Callable[..., Peer]
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    inner = app.wsgi_app

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = variable.set("of the middleware")
        try:
            return inner(environ, start_response)
        finally:
            variable.reset(token)

    app.wsgi_app = middleware  # type: ignore[method-assign]

    @sock.route("/")
    def tell(ws: WebSocket) -> None:
        ws.send(variable.get())

    assert connect().read() == "of the middleware"


def test_what_the_handler_sets_is_no_business_of_the_worker(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @sock.route("/")
    def change(ws: WebSocket) -> None:
        variable.set("of the handler")
        ws.receive()

    seen: Future[str] = Future()

    def see(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        iterable = app(environ, start_response)
        seen.set_result(variable.get())
        return iterable

    server.accepted(server.call(see, detach=True))
    assert seen.result(PATIENCE) == "unset"


def test_objects_of_the_server_leave_the_environ(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    held = object()

    @sock.route("/")
    def tell(ws: WebSocket) -> None:
        ws.receive()
        ws.send_json([key for key, value in ws.environ.items() if value is held])

    call = server.call(
        app,
        detach=True,
        environ={
            "gunicorn.socket": held,
            "werkzeug.socket": held,
            "wsgi.early_hints": held,
            "a.middleware": held,
        },
    )
    server.accepted(call)
    call.wait()
    assert call.peer.echo("go on") == '["a.middleware"]'


def test_the_worker_goes_through_an_environ_that_nobody_changes(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """To log it, as Gunicorn does, while the handler runs: a dictionary that grows is an error."""
    changed = threading.Event()

    @sock.route("/")
    def change(ws: WebSocket) -> None:
        for number in range(100):
            request.environ[f"a.{number}"] = number
        assert ws.environ is request.environ
        assert request.headers["Host"]
        changed.set()
        ws.receive()

    def go_through(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        iterable = app(environ, start_response)
        assert changed.wait(PATIENCE)
        assert not [key for key in environ if key.startswith("a.")]
        return iterable

    server.accepted(server.call(go_through, detach=True))


@pytest.mark.parametrize(
    ("target", "server_socket"),
    [("handler", {"detach": True}), ("view", {"detach": True}), ("view", {"detachable": True})],
)
def test_a_server_may_clear_its_environ_when_it_has_the_response(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    target: str,
    server_socket: dict[str, Any],
) -> None:
    """Not that of a connection which outlives it; uWSGI does so."""

    def clear(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        iterable = app(environ, start_response)
        environ.clear()
        return iterable

    @sock.route("/handler")
    def tell(ws: WebSocket) -> None:
        ws.receive()
        ws.send(request.path)

    @sock.route("/view")
    class Tell(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(request.path)

    call = server.call(clear, f"/{target}", **server_socket)
    server.accepted(call)
    call.wait()

    assert call.peer.echo("where?") == f"/{target}"


@pytest.mark.parametrize("server_socket", [{"detach": True}, {}], ids=["detached", "inline"])
def test_the_servers_own_101_is_written_before_the_end_of_the_response(
    app: Flask, sock: Sock, server: MemoryServer, server_socket: dict[str, Any]
) -> None:
    """A server may write it with the first chunk, and the dead socket is drained at the end."""
    sock.route("/")(lambda ws: None)
    chunks: Future[list[bytes]] = Future()

    def see(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        iterable = app(environ, start_response)
        chunks.set_result(list(iterable))
        return iterable

    server.connect(see, **server_socket).close()
    assert chunks.result(PATIENCE) == [b""]


# The end of the request


@pytest.mark.parametrize("hook", ["teardown_request", "teardown_appcontext"])
def test_teardown_functions_run_once_when_the_handler_ends(
    app: Flask, sock: Sock, server: MemoryServer, hook: str
) -> None:
    torn_down: list[str] = []
    ended = threading.Event()

    @getattr(app, hook)
    def tear_down(error: BaseException | None) -> None:
        torn_down.append(here())
        ended.set()

    sock.route("/")(echo)
    call = server.call(app, detach=True)
    server.accepted(call)
    call.wait()
    assert call.peer.echo("hello") == "hello"
    assert torn_down == []

    call.peer.close()
    assert ended.wait(PATIENCE)
    assert torn_down == [THREAD]


def test_after_request_functions_act_on_the_101(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.after_request
    def mark(response: flask.Response) -> flask.Response:
        response.headers["X-Marked"] = "yes"
        return response

    sock.route("/")(echo)
    assert server.accepted(server.call(app, detach=True)).get("X-Marked") == "yes"


def test_call_on_close_functions_run_once_when_the_handler_ends(
    app: Flask, sock: Sock, connect: Callable[..., Peer], threads: ThreadPool
) -> None:
    closed: list[str] = []

    @app.after_request
    def remember(response: flask.Response) -> flask.Response:
        response.call_on_close(lambda: closed.append(here()))
        return response

    sock.route("/")(echo)
    peer = connect()
    assert peer.echo("hello") == "hello"
    assert closed == []
    peer.close()
    until(lambda: len(threads) == 0)
    assert closed == [THREAD]


def test_inner_middleware_sees_the_end_of_the_handler(
    app: Flask, server: MemoryServer, threads: ThreadPool
) -> None:
    closed: list[str] = []
    inner = app.wsgi_app

    def middleware(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return ClosingIterator(inner(environ, start_response), lambda: closed.append(here()))

    app.wsgi_app = middleware  # type: ignore[method-assign]
    Sock(app).route("/")(echo)
    peer = server.connect(app, detach=True)
    peer.close()
    until(lambda: len(threads) == 0)
    assert closed == [THREAD]


def test_an_error_after_the_handler_is_logged(
    app: Flask,
    sock: Sock,
    connect: Callable[..., Peer],
    threads: ThreadPool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server would log it, but has been given its answer."""

    @app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise RuntimeError("failed on purpose")

    sock.route("/")(echo)
    connect().close()
    until(lambda: len(threads) == 0)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.name == "flask_ws"


# Refusals


def test_a_refusal_is_the_servers_answer(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @app.before_request
    def refuse() -> None:
        raise Unauthorized("no entry")

    sock.route("/")(echo)
    response = server.refuse(app, detach=True)
    assert response.status == 401
    assert "no entry" in response.text


def test_an_exception_before_the_handshake_is_a_500(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.before_request
    def fail() -> None:
        raise RuntimeError("failed on purpose")

    sock.route("/")(echo)
    assert server.refuse(app, detach=True).status == 500


def test_an_exception_that_is_to_reach_the_server_does(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """As the debugger asks for."""
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.before_request
    def fail() -> None:
        raise RuntimeError("failed on purpose")

    sock.route("/")(echo)
    with pytest.raises(RuntimeError, match="on purpose"):
        server.call(app, detach=True).wait()


def test_a_refused_request_leaves_no_thread(
    app: Flask, sock: Sock, server: MemoryServer, threads: ThreadPool
) -> None:
    sock.route("/")(echo)
    assert server.refuse(app, "/nowhere", detach=True).status == 404
    until(lambda: len(threads) == 0)


# The limit


@pytest.fixture
def full(app: Flask, sock: Sock, connect: Callable[..., Peer]) -> Peer:
    """A process with as many handlers as it may have: one, whose client this is."""
    app.config["SOCK_MAX_THREADS"] = 1
    sock.route("/")(echo)

    @sock.route("/view")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)

    # Before the first request, as a user would.
    @app.errorhandler(503)
    def full_house(error: HTTPException) -> Any:
        response = error.get_response()
        response.headers["X-Handled"] = "yes"
        return response

    return connect()


def test_past_the_limit_a_handshake_gets_503(
    full: Peer, app: Flask, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    response = server.refuse(app, detach=True)
    assert response.status == 503
    assert "SOCK_MAX_THREADS" in caplog.text


def test_a_client_does_not_learn_which_limit_is_reached(
    full: Peer, app: Flask, server: MemoryServer
) -> None:
    text = server.refuse(app, detach=True).text
    assert "The server has no room for another WebSocket now." in text
    assert "SOCK_" not in text


def test_a_client_is_told_when_to_come_back(full: Peer, app: Flask, server: MemoryServer) -> None:
    assert int(server.refuse(app, detach=True).get("Retry-After") or 0) > 0


def test_the_503_goes_through_the_apps_error_handlers(
    full: Peer, app: Flask, server: MemoryServer
) -> None:
    assert server.refuse(app, detach=True).get("X-Handled") == "yes"


def test_an_event_view_is_accepted_past_the_limit(full: Peer, connect: Callable[..., Peer]) -> None:
    assert connect("/view").echo("hello") == "hello"


def test_there_is_room_once_a_handler_has_ended(
    full: Peer, connect: Callable[..., Peer], threads: ThreadPool
) -> None:
    full.close()
    until(lambda: len(threads) == 0)
    assert connect().echo("hello") == "hello"


def test_event_views_do_not_count(
    app: Flask, sock: Sock, connect: Callable[..., Peer], threads: ThreadPool
) -> None:
    app.config["SOCK_MAX_THREADS"] = 1
    sock.route("/")(echo)
    sock.route("/view")(type("View", (WebSocketView,), {}))
    for _ in range(3):
        connect("/view")
        until(lambda: len(threads) == 0)
    assert connect().echo("hello") == "hello"


def test_a_system_without_threads_gives_503_and_says_so(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == THREAD:
            raise RuntimeError("can't start new thread")
        start(thread)

    sock.route("/")(echo)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        response = server.refuse(app, detach=True)
    assert response.status == 503
    assert "no more threads" in caplog.text
    assert "SOCK_MAX_THREADS" not in caplog.text


def test_a_request_that_raises_a_runtime_error_runs_once(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """It is not taken for a lack of threads."""
    app.config["PROPAGATE_EXCEPTIONS"] = True
    calls: list[str] = []

    @app.before_request
    def fail() -> None:
        calls.append(here())
        raise RuntimeError("of the app")

    sock.route("/")(echo)
    with pytest.raises(RuntimeError, match="of the app"):
        server.call(app, detach=True).wait()
    assert calls == [THREAD]
