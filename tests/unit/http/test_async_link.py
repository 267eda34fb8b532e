"""Async handlers: from the handshake to the end, on servers of each kind in memory."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from concurrent.futures import Future
from typing import Any

import flask
import pytest
from flask import Flask, abort, g, got_request_exception, request, session
from tests.support.memory import MemoryServer, in_thread, is_waiting, settle_all
from tests.support.raw import encode_message
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import TLS, tls_pair

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    ConnectionClosed,
    Sock,
    WebSocket,
    WebSocketView,
    connection_closed,
    connection_opened,
)
from flask_ws.budget import budget
from flask_ws.concurrency import Concurrency, Event, threads
from flask_ws.loop.asyncio_loop import AsyncioLoop
from flask_ws.loop.monitor import monitor_for

#: What plugins say of their servers' sockets.
SERVERS = [
    pytest.param({}, id="waiting"),
    pytest.param({"detach": True}, id="few-workers"),
    pytest.param({"detachable": True}, id="detachable"),
]
LEAVING = SERVERS[1:]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "flask_ws")
    return caplog


async def echo(ws: AsyncWebSocket) -> None:
    async for message in ws:
        await ws.send(message)


async def wait_for_close(ws: AsyncWebSocket) -> None:
    async for _ in ws:
        pass


# Every kind of server


@pytest.mark.parametrize("socket", SERVERS)
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_messages_are_echoed(
    app: Flask, sock: Sock, server: MemoryServer, tls: TLS, socket: dict[str, Any], secure: bool
) -> None:
    sock.route("/")(echo)
    call = server.call(app, pair=tls_pair(tls) if secure else None, **socket)
    server.accepted(call)
    assert [call.peer.echo(message) for message in ("one", b"two", "x" * 300_000)] == [
        "one",
        b"two",
        "x" * 300_000,
    ]
    assert call.peer.close(4000).close_code == 4000
    call.wait()
    settle_all()


@pytest.mark.parametrize("socket", LEAVING)
def test_server_has_its_thread_back_while_the_connection_lives(
    app: Flask, sock: Sock, server: MemoryServer, socket: dict[str, Any]
) -> None:
    sock.route("/")(echo)
    call = server.call(app, **socket)
    server.accepted(call)
    call.wait()
    assert call.status == "101 Switching Protocols"
    assert call.peer.echo("hello") == "hello"


@pytest.mark.parametrize(
    ("options", "socket"),
    [
        pytest.param({}, {}, id="cannot"),
        pytest.param({"detach": False}, {"detach": True}, id="is-not-to"),
    ],
)
def test_server_that_cannot_detach_waits_for_the_end(
    app: Flask, sock: Sock, server: MemoryServer, options: dict[str, Any], socket: dict[str, Any]
) -> None:
    sock.route("/", **options)(echo)
    call = server.call(app, **socket)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    assert not call.ended.done()
    call.peer.close()
    call.wait()


class Interrupting(Concurrency):
    """A server whose thread, while it waits for a handler, gets an exception: once."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.is_due = threading.Event()

    def event(self) -> Event:
        return InterruptedEvent(self)


class InterruptedEvent(threading.Event):
    def __init__(self, server: Interrupting) -> None:
        super().__init__()
        self.server = server

    def wait(self, timeout: float | None = None) -> bool:
        if self.server.is_due.is_set():
            self.server.is_due.clear()
            raise self.server.error
        return super().wait(timeout)


# The server does not come back to drain the dead socket.
interrupted = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@interrupted
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["handler", "view"])
def test_server_that_is_interrupted_ends_after_the_goodbye(
    app: Flask, sock: Sock, server: MemoryServer, kind: str, error: type[BaseException]
) -> None:
    """It may end its process."""

    class View(AsyncWebSocketView):
        """One that only waits."""

    target: Any = echo if kind == "handler" else View
    sock.route("/")(target)
    stopping = Interrupting(error)
    call = server.call(app, concurrency=stopping)
    server.accepted(call)
    stopping.is_due.set()
    assert call.peer.read_close().close_code == 1001
    assert is_waiting(call.ended)
    call.peer.send_close(1001)
    with pytest.raises(error):
        call.wait()


@interrupted
def test_server_that_is_interrupted_waits_for_no_handler_without_end(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """The handler is cancelled, and has time to tidy up."""
    tidied: Future[bool] = Future()

    @sock.route("/", close_timeout=0.05, cancel_on_close=False)
    async def endless(ws: AsyncWebSocket) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            tidied.set_result(call.ended.done())

    stopping = Interrupting(KeyboardInterrupt)
    call = server.call(app, concurrency=stopping)
    server.accepted(call)
    stopping.is_due.set()
    with pytest.raises(KeyboardInterrupt):
        call.wait()
    assert tidied.result(0) is False


def test_frames_that_the_server_has_read_are_served(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(echo)
    peer = server.connect(app, read_ahead=encode_message("one") + encode_message("two"))
    assert [peer.read(), peer.read()] == ["one", "two"]


def test_handler_needs_no_thread_of_the_pool(app: Flask, sock: Sock, server: MemoryServer) -> None:
    app.config["SOCK_MAX_THREADS"] = 1
    release = threading.Event()

    @sock.route("/blocking")
    def blocking(ws: WebSocket) -> None:
        release.wait(PATIENCE)

    sock.route("/")(echo)
    server.connect(app, "/blocking", detach=True)
    peers = [server.connect(app, detach=True) for _ in range(3)]
    assert [peer.echo("hello") for peer in peers] == ["hello"] * 3
    assert server.refuse(app, "/blocking", detach=True).status == 503
    release.set()


def test_connections_are_counted(app: Flask, sock: Sock, server: MemoryServer) -> None:
    app.config["SOCK_MAX_CONNECTIONS"] = 2
    sock.route("/")(echo)
    peers = [server.connect(app, detach=True) for _ in range(2)]
    assert server.refuse(app, detach=True).status == 503
    peers[0].close()
    until(lambda: len(monitor_for(threads)) == 1)
    assert server.connect(app, detach=True).echo("hello") == "hello"


# The request


@pytest.mark.parametrize("socket", SERVERS)
def test_handler_and_its_tasks_have_the_request(
    app: Flask, sock: Sock, server: MemoryServer, socket: dict[str, Any]
) -> None:
    @app.before_request
    def before() -> None:
        g.word = "from before_request"
        session["user"] = "her"

    @sock.route("/<name>", endpoint="named")
    async def handler(ws: AsyncWebSocket, name: str) -> None:
        async def look() -> list[Any]:
            await asyncio.sleep(0)
            return [request.path, name, g.word, session["user"], flask.url_for("named", name="x")]

        await ws.receive()
        await ws.send_json([*await asyncio.create_task(look()), flask.current_app.name])

    peer = server.connect(app, "/room", **socket)
    assert flask.json.loads(peer.echo("go")) == [
        "/room",
        "room",
        "from before_request",
        "her",
        "ws://localhost/x",
        "app",
    ]


@pytest.mark.parametrize("socket", SERVERS)
@pytest.mark.parametrize("ending", ["return", "raise", "close"])
def test_request_is_torn_down_once_with_the_error(
    app: Flask, sock: Sock, server: MemoryServer, socket: dict[str, Any], ending: str
) -> None:
    torn: list[Any] = []
    both = threading.Event()

    @app.teardown_request
    def tear_down_request(error: BaseException | None) -> None:
        torn.append(("request", type(error), g.word))

    @app.teardown_appcontext
    def tear_down_app(error: BaseException | None) -> None:
        torn.append(("app", type(error), g.word))
        both.set()

    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        g.word = "said"
        await ws.send("ready")
        await ws.receive()
        if ending == "raise":
            raise RuntimeError("on purpose")
        if ending == "close":
            await ws.receive()

    call = server.call(app, **socket)
    server.accepted(call)
    assert call.peer.read() == "ready"
    assert torn == []
    call.peer.send("end")
    if ending == "close":
        call.peer.close()
    else:
        call.peer.answer_close()
    assert both.wait(PATIENCE)
    call.wait()
    settle_all()
    error = {"return": type(None), "raise": RuntimeError, "close": ConnectionClosed}[ending]
    assert torn == [("request", error, "said"), ("app", error, "said")]


def test_next_request_of_the_servers_thread_finds_nothing_of_the_handlers(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """A server's thread that has the next request, while the handler runs elsewhere."""
    sock.route("/")(echo)
    seen: list[Any] = []

    @app.before_request
    def before() -> None:
        seen.append(sorted(g))
        g.secret = "of this request"

    @app.get("/next")
    def next_request() -> str:
        return "next"

    def serve_both(environ: Any, start_response: Any) -> Any:
        body = app(environ, start_response)
        assert not flask.has_request_context()
        seen.append(app.test_client().get("/next").get_data(as_text=True))
        return body

    call = server.call(serve_both, detachable=True)
    server.accepted(call)
    call.wait()
    assert seen == [[], [], "next"]
    assert call.peer.echo("hello") == "hello"


# The end


def test_return_is_1000(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        pass

    assert server.connect(app, detach=True).answer_close().close_code == 1000


@pytest.mark.parametrize("socket", SERVERS)
def test_exception_is_1011_and_reported_as_a_views(
    app: Flask, sock: Sock, server: MemoryServer, log: Any, socket: dict[str, Any]
) -> None:
    errors: list[Exception] = []

    def receiver(sender: Flask, exception: Exception) -> None:
        errors.append(exception)

    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        raise RuntimeError("the handler's fault")

    with got_request_exception.connected_to(receiver, app):
        assert server.connect(app, **socket).answer_close().close_code == 1011
        settle_all()
    assert [str(error) for error in errors] == ["the handler's fault"]
    assert "Exception on / [GET]" in log.text


def test_http_exception_is_explained(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    @sock.route("/")
    async def aborting_late(ws: AsyncWebSocket) -> None:
        abort(401)

    server.connect(app, detach=True).answer_close()
    settle_all()
    assert "aborting_late raised 401 Unauthorized, which comes too late" in log.text


def test_task_that_sends_after_the_handler_is_told_why_it_cannot(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    left: Future[AsyncWebSocket] = Future()

    @sock.route("/")
    async def leave(ws: AsyncWebSocket) -> None:
        left.set_result(ws)

    server.connect(app, detach=True).answer_close()
    settle_all()
    ws = left.result(PATIENCE)
    with pytest.raises(ConnectionClosed, match="closed: 1000 the handler has returned"):
        asyncio.run_coroutine_threadsafe(ws.send("late"), ws.loop).result(PATIENCE)


def test_end_by_anothers_connection_is_explained(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    gone: Future[AsyncWebSocket] = Future()

    @sock.route("/gone")
    async def leave(ws: AsyncWebSocket) -> None:
        gone.set_result(ws)

    @sock.route("/")
    async def forwarding(ws: AsyncWebSocket) -> None:
        await gone.result().send("news")

    server.connect(app, "/gone", detach=True).answer_close()
    settle_all()
    server.connect(app, detach=True).answer_close()
    settle_all()
    assert "forwarding was ended by the ConnectionClosed of another connection" in log.text


def test_nothing_is_kept_for_a_handler_that_ended_with_its_connection(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    kept: list[weakref.ref[AsyncWebSocket]] = []

    @sock.route("/", close_timeout=60)
    async def handler(ws: AsyncWebSocket) -> None:
        kept.append(weakref.ref(ws))
        while ws.connected:
            await asyncio.sleep(0.01)

    server.connect(app, detach=True).close()
    settle_all()
    until(lambda: gc.collect() >= 0 and kept[0]() is None)


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["handler", "task"])
def test_exit_of_one_is_not_the_end_of_others(
    app: Flask, sock: Sock, server: MemoryServer, exception: type[BaseException], where: str
) -> None:
    sock.route("/")(echo)

    @sock.route("/leave")
    async def leave(ws: AsyncWebSocket) -> None:
        async def leave() -> None:
            raise exception

        await ws.receive()
        await (leave() if where == "handler" else asyncio.create_task(leave()))

    other = server.connect(app, detach=True)
    peer = server.connect(app, "/leave", detach=True)
    peer.send("go")
    assert peer.answer_close().close_code == 1001
    assert other.echo("hello") == "hello"


def test_handler_that_waits_elsewhere_is_cancelled_after_the_close(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    ended: Future[str] = Future()

    @sock.route("/", close_timeout=0.05)
    async def elsewhere(ws: AsyncWebSocket) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set_result(f"cancelled, connected: {ws.connected}")
            raise

    server.connect(app, detach=True).close()
    assert ended.result(PATIENCE) == "cancelled, connected: False"
    settle_all()
    assert "elsewhere goes on 0.05 s after the end of its connection, and is cancelled" in log.text


@pytest.mark.parametrize("kind", ["handler", "view"])
def test_cancellation_by_the_app_is_1011_and_logged(
    app: Flask, sock: Sock, server: MemoryServer, log: Any, kind: str
) -> None:
    async def await_cancelled() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            await await_cancelled()

    async def handler(ws: AsyncWebSocket) -> None:
        await ws.receive()
        await await_cancelled()

    target: Any = View if kind == "view" else handler
    sock.route("/")(target)
    peer = server.connect(app, detach=True)
    peer.send("go")
    assert peer.answer_close().close_code == 1011
    settle_all()
    name = "on_message" if kind == "view" else "handler"
    assert f"{name} was cancelled: something that it awaits was" in log.text


def test_handler_that_is_not_to_be_cancelled_goes_on(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    go_on, ended = threading.Event(), Future[bool]()

    @sock.route("/", close_timeout=0.01, cancel_on_close=False)
    async def elsewhere(ws: AsyncWebSocket) -> None:
        await asyncio.to_thread(go_on.wait, PATIENCE)
        ended.set_result(ws.connected)

    server.connect(app, detach=True).close()
    threading.Event().wait(0.1)
    assert not ended.done()
    go_on.set()
    assert ended.result(PATIENCE) is False


def test_forgotten_tasks_exception_is_logged_with_the_connection(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    @sock.route("/lonely")
    async def handler(ws: AsyncWebSocket) -> None:
        async def fail() -> None:
            raise RuntimeError("nobody awaits this")

        # A task whose exception nobody fetches.
        asyncio.create_task(fail())  # noqa: RUF006
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    server.connect(app, "/lonely", detach=True).answer_close()
    until(lambda: "nobody awaits this" in log.text)
    assert "127.0.0.1 /lonely: Task exception was never retrieved" in log.text


def test_open_and_close_have_a_line_each(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    sock.route("/")(echo)
    peer = server.connect(app, detach=True)
    peer.echo("hello")
    peer.close(4000, "enough")

    def lines() -> list[str]:
        return [line for line in log.messages if line.startswith("WebSocket ")]

    until(lambda: len(lines()) == 2)
    assert "closed: 4000 enough" in lines()[1]
    assert "1 messages (25 bytes) in, 1 messages" in lines()[1]


def test_connections_are_in_the_numbers_and_signals(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(echo)
    told: list[tuple[Any, ...]] = []

    def opened(sender: object, ws: AsyncWebSocket, path: str, **extra: Any) -> None:
        told.append(("opened", type(ws), path))

    def closed(sender: object, code: int, messages_in: int, **extra: Any) -> None:
        told.append(("closed", code, messages_in))

    with connection_opened.connected_to(opened), connection_closed.connected_to(closed):
        peer = server.connect(app, detach=True)
        peer.echo("hello")
        # A message is counted when it has been sent, a moment after the client may have it.
        until(lambda: sock.stats(app).routes["echo"].messages_out == 1)
        route = sock.stats(app).routes["echo"]
        assert (route.open, route.messages_in) == (1, 1)
        peer.close(4000)
        settle_all()
        until(lambda: len(told) == 2)
    assert told == [("opened", AsyncWebSocket, "/"), ("closed", 4000, 1)]
    route = sock.stats(app).routes["echo"]
    assert (route.open, route.closed) == (0, {4000: 1})


def test_without_a_thread_for_the_loop_a_handshake_gets_503(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: AsyncioLoop) -> None:
        raise RuntimeError("can't start new thread")

    sock.route("/")(echo)
    monkeypatch.setattr(AsyncioLoop, "start_thread", fail)
    assert server.refuse(app, detach=True).status == 503
    settle_all()


# What holds the loop


def test_handler_that_blocks_is_named_with_its_line_while_it_does(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    app.config["SOCK_BLOCKED_AFTER"] = 0.05
    release = threading.Event()

    @sock.route("/blocks")
    async def careless(ws: AsyncWebSocket) -> None:
        await ws.receive()
        release.wait(PATIENCE)  # the line that blocks

    peer = server.connect(app, "/blocks", detach=True)
    peer.send("go")
    until(lambda: "has held the loop" in log.text)
    release.set()
    peer.answer_close()
    (line,) = [each for each in log.messages if "has held the loop" in each]
    assert "127.0.0.1 /blocks: careless has held the loop" in line
    assert "release.wait(PATIENCE)  # the line that blocks" in line
    assert "test_async_link.py:" in line


# Mistakes, and what simply works


def test_iteration_without_async_is_told(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    async def handler(ws: Any) -> None:
        try:
            for _ in ws:
                pass
        except TypeError as error:
            await ws.send(str(error))

    assert "async for message in ws" in str(server.connect(app, detach=True).read())


def test_send_from_a_thread_says_what_to_do(
    app: Flask, sock: Sock, server: MemoryServer, log: Any
) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        await asyncio.to_thread(lambda: [ws.send("into the void"), None][1])
        await asyncio.to_thread(as_it_says, ws)
        await asyncio.to_thread(lambda: asyncio.run(ws.send("on a loop of its own")))

    def as_it_says(ws: AsyncWebSocket) -> None:
        asyncio.run_coroutine_threadsafe(ws.send("as it says"), ws.loop).result(PATIENCE)

    peer = server.connect(app, detach=True)
    assert [peer.read(), peer.read()] == ["as it says", "on a loop of its own"]
    (line,) = [each for each in log.messages if "nobody has awaited it" in each]
    assert "asyncio.run_coroutine_threadsafe(ws.send(...), ws.loop)" in line


def test_send_from_another_loop_works(app: Flask, sock: Sock, server: MemoryServer) -> None:
    found: Future[AsyncWebSocket] = Future()

    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        found.set_result(ws)
        await wait_for_close(ws)

    peer = server.connect(app, detach=True)
    ws = found.result(PATIENCE)

    async def send() -> None:
        await ws.send("from another loop")
        await ws.send_json([1])

    in_thread(asyncio.run, send()).result(PATIENCE)
    assert [peer.read(), peer.read()] == ["from another loop", "[1]"]


def test_blocking_handlers_ws_can_be_sent_to(app: Flask, sock: Sock, server: MemoryServer) -> None:
    found: list[WebSocket] = []

    @sock.route("/blocking")
    def blocking(ws: WebSocket) -> None:
        found.append(ws)
        ws.send("ready")
        ws.receive()

    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        async for message in ws:
            found[0].send(message)

    listener = server.connect(app, "/blocking")
    assert listener.read() == "ready"
    server.connect(app, detach=True).send("across")
    assert listener.read() == "across"
    listener.close()


# Channels


@pytest.mark.parametrize("number", [2, 30])
def test_publications_reach_handlers_of_both_kinds_in_order(
    app: Flask, sock: Sock, server: MemoryServer, number: int
) -> None:
    @sock.route("/async")
    async def subscribe(ws: AsyncWebSocket) -> None:
        await ws.subscribe("news")
        await ws.send("ready")
        async for message in ws:
            sock.publish("news", message, exclude=ws)

    @sock.route("/blocking")
    def subscribe_too(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        for message in ws:
            sock.publish("news", message, exclude=ws)

    paths = ["/async", "/blocking"] * (number // 2)
    peers = [server.connect(app, path, detach=True) for path in paths]
    assert [peer.read() for peer in peers] == ["ready"] * number
    with app.app_context():
        assert sock.subscribers("news") == number
        for message in range(20):
            sock.publish("news", str(message))
    for peer in peers:
        assert [peer.read() for _ in range(20)] == [str(message) for message in range(20)]
    peers[0].send("from async")
    assert peers[1].read() == "from async"
    peers[1].send("from blocking")
    # Not what it has sent itself.
    assert peers[0].read() == "from blocking"
    for peer in peers:
        peer.send_close()
        peer.read_close(after="anything")
    settle_all()
    with app.app_context():
        assert sock.subscribers("news") == 0


def test_unsubscribed_handler_hears_nothing(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        await ws.subscribe("news")
        sock.publish("news", "heard")
        await ws.unsubscribe("news")
        sock.publish("news", "not heard")
        await ws.send("end")

    peer = server.connect(app, detach=True)
    assert [peer.read(), peer.read()] == ["heard", "end"]


def test_context_variables_of_the_handshake_are_the_handlers(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bound: contextvars.ContextVar[str] = contextvars.ContextVar("bound")

    @app.before_request
    def before() -> None:
        bound.set("in before_request")

    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        await ws.send(bound.get())

    assert server.connect(app, detach=True).read() == "in before_request"


# Event views


class Recorder(AsyncWebSocketView):
    """Notes what happens, and whether two methods overlap."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.running = 0

    async def note(self, text: str) -> None:
        self.running += 1
        self.notes.append(text if self.running == 1 else f"{text} overlaps")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.running -= 1

    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await self.note("open")

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await self.note(str(message))
        if message == "tell":
            await ws.send_json(self.notes)


@pytest.mark.parametrize("socket", SERVERS)
def test_methods_of_a_view_are_called_in_order_and_never_overlap(
    app: Flask, sock: Sock, server: MemoryServer, socket: dict[str, Any]
) -> None:
    ended: Future[tuple[int, str]] = Future()

    @sock.route("/")
    class View(Recorder):
        async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
            ended.set_result((code, reason))

    call = server.call(app, **socket)
    server.accepted(call)
    for number in range(50):
        call.peer.send(str(number))
    notes = flask.json.loads(call.peer.echo("tell"))
    assert notes == ["open", *map(str, range(50)), "tell"]
    call.peer.close(4000, "enough")
    assert ended.result(PATIENCE) == (4000, "enough")
    call.wait()


@pytest.mark.parametrize("end", ["returns", "raises", "ends the process"])
def test_messages_that_were_not_received_are_not_counted_afterwards(
    app: Flask, sock: Sock, server: MemoryServer, end: str
) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        while ws.connected:
            await asyncio.sleep(0.01)
        if end == "raises":
            await ws.send("too late")
        if end == "ends the process":
            raise SystemExit

    before = budget.total
    peer = server.connect(app, detach=True)
    peer.send("x" * 20_000)
    until(lambda: budget.total > before)
    peer.reset()
    until(lambda: budget.total == before)


def test_view_that_waits_lets_others_run(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            if message == "wait":
                loops.append(asyncio.get_running_loop())
                await release.wait()
            await ws.send(message)

    release, loops = asyncio.Event(), list[asyncio.AbstractEventLoop]()
    waiting = server.connect(app, detach=True)
    other = server.connect(app, detach=True)
    waiting.send("wait")
    assert other.echo("hello") == "hello"
    waiting.send_close()
    # Seen and answered, though the method is not done.
    assert waiting.read_close().close_code == 1000
    # Else it has its place for a while yet, and other tests find the process full.
    loops[0].call_soon_threadsafe(release.set)
    until(lambda: len(monitor_for(threads)) == 1)


def test_view_may_have_methods_of_both_kinds(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/<room>")
    class View(WebSocketView):
        def on_open(self, ws: Any, room: str) -> None:
            self.room = room

        async def on_message(self, ws: Any, message: str | bytes) -> None:  # type: ignore[override]
            await ws.send(f"{self.room}: {message!r}")

    assert server.connect(app, "/lobby", detach=True).echo("hello") == "lobby: 'hello'"


def test_each_method_has_the_request_an_empty_g_and_is_torn_down(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    torn: list[Any] = []
    ended = threading.Event()

    @app.before_request
    def before() -> None:
        g.word = "of the handshake"

    @app.teardown_request
    def tear_down(error: BaseException | None) -> None:
        torn.append((g.pop("method", None), type(error)))
        if torn[-1][0] == "close":
            ended.set()

    @sock.route("/room")
    class View(AsyncWebSocketView):
        async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
            await self.look(ws, "open")

        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            await self.look(ws, "message")
            raise RuntimeError("on purpose")

        async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
            g.method = "close"

        async def look(self, ws: AsyncWebSocket, method: str) -> None:
            await ws.send_json([request.path, sorted(g)])
            g.method = method

    peer = server.connect(app, "/room", detach=True)
    assert flask.json.loads(peer.read()) == ["/room", []]
    assert flask.json.loads(peer.echo("go")) == ["/room", []]
    assert peer.answer_close().close_code == 1011
    assert ended.wait(PATIENCE)
    methods = [each for each in torn if each[0] is not None]
    assert methods == [("open", type(None)), ("message", RuntimeError), ("close", type(None))]


def test_views_method_that_goes_on_is_cancelled_and_on_close_is_called(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    ended: Future[int] = Future()

    @sock.route("/", close_timeout=0.05)
    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            await asyncio.sleep(60)

        async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
            await asyncio.sleep(0)
            ended.set_result(code)

    peer = server.connect(app, detach=True)
    peer.send("go")
    peer.close(4000)
    assert ended.result(PATIENCE) == 4000


def test_view_that_closes_gets_no_more_messages(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    notes: list[str] = []
    ended = threading.Event()

    @sock.route("/")
    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            notes.append(str(message))
            await ws.close(4001)

        async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
            notes.append(str(code))
            ended.set()

    peer = server.connect(app, detach=True)
    peer.send_bytes(encode_message("one") + encode_message("two"))
    assert peer.answer_close().close_code == 4001
    assert ended.wait(PATIENCE)
    assert notes == ["one", "4001"]


def test_view_cannot_receive(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            try:
                await ws.receive()
            except RuntimeError as error:
                await ws.send(str(error))

    assert "on_message()" in str(server.connect(app, detach=True).echo("go"))
