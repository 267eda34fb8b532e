from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask, g, request, session
from tests.support.memory import MemoryServer, tcp_pair
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    encode_close,
    encode_frame,
    encode_message,
)
from tests.support.waiting import PATIENCE

from flask_ws import ConnectionClosed, Sock, WebSocket, WebSocketView
from flask_ws.connection.connection import Connection
from flask_ws.loop import reactor as reactor_module
from flask_ws.loop.monitor import monitor_for
from flask_ws.loop.reactor import Reactor
from flask_ws.views.conversation import lighten

#: What the plugin says of the server's socket: the view then runs in the server's own thread, on
#: the reactor, or on the reactor after a thread of our own has answered the handshake.
PLACES = {"inline": {}, "reactor": {"detachable": True}, "detached": {"detach": True}}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the view runs: it behaves the same everywhere."""
    return PLACES[request.param]


@pytest.fixture(autouse=True)
def reactor(monkeypatch: pytest.MonkeyPatch) -> Reactor:
    """A reactor of the test's own, with four threads."""
    reactor = Reactor(4)
    monkeypatch.setitem(reactor_module._reactors._made, None, reactor)
    monkeypatch.setattr(reactor_module, "PATIENCE", 0.05)
    return reactor


class Said(queue.Queue[Any]):
    """What the methods of a view had to say, to be awaited."""

    def next(self) -> Any:
        return self.get(timeout=PATIENCE)

    def nothing_more(self) -> bool:
        return self.empty()


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def connect(server: MemoryServer, app: Flask, place: dict[str, Any]) -> Iterator[Any]:
    """Open WebSockets; afterwards none may be left."""

    def connect(target: str = "/", **kwargs: Any) -> Peer:
        return server.connect(app, target, **place, **kwargs)

    yield connect
    server.close()
    until_none_is_open(server)


def until_none_is_open(server: MemoryServer) -> None:
    from flask_ws.concurrency import threads

    deadline = time.monotonic() + PATIENCE
    pause = threading.Event()
    while len(monitor_for(threads)):
        assert time.monotonic() < deadline, "connections are left"
        pause.wait(0.005)


def recording(said: Said) -> type[WebSocketView]:
    """A view that tells the test of each of its calls, and echoes."""

    class Recording(WebSocketView):
        def on_open(self, ws: WebSocket, **variables: object) -> None:
            said.put(("open", variables))

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            said.put(("message", message))
            ws.send(message)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(("close", code))

    return Recording


# The methods


def test_the_methods_are_called_in_order(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/<room>")(recording(said))
    peer = connect("/lobby")
    assert peer.echo("hello") == "hello"
    peer.close(4000)

    assert [said.next() for _ in range(3)] == [
        ("open", {"room": "lobby"}),
        ("message", "hello"),
        ("close", 4000),
    ]


def test_a_variable_of_the_url_may_have_any_name(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/<method>/<self>/<target>/<callable>")
    class View(WebSocketView):
        def on_open(*args: Any, **variables: str) -> None:  # type: ignore[override]
            said.put(variables)

    connect("/a/b/c/d")
    assert said.next() == {"method": "a", "self": "b", "target": "c", "callable": "d"}


def test_a_view_may_leave_out_any_method(sock: Sock, connect: Any) -> None:
    sock.route("/")(type("Empty", (WebSocketView,), {}))
    peer = connect()
    peer.send("hello")
    assert peer.close(1000).close_code == 1000


def test_each_connection_has_an_instance(sock: Sock, connect: Any) -> None:
    @sock.route("/<name>")
    class Named(WebSocketView):
        def on_open(self, ws: WebSocket, name: str) -> None:
            self.name = name

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(self.name)

    ada, grace = connect("/ada"), connect("/grace")
    assert (ada.echo("who"), grace.echo("who"), ada.echo("who")) == ("ada", "grace", "ada")


@pytest.mark.parametrize("message", ["text", "", "h\u00e9 \U0001f9e6", b"bytes", b""])
def test_the_type_of_a_message_is_that_of_its_frame(
    sock: Sock, connect: Any, message: str | bytes
) -> None:
    @sock.route("/")
    class Echo(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)

    assert connect().echo(message) == message


def test_many_messages_keep_their_order(sock: Sock, said: Said, connect: Any) -> None:
    messages = [f"message {number}" for number in range(500)]
    sock.route("/")(recording(said))
    peer = connect()
    peer.send_bytes(b"".join(map(encode_message, messages)))
    assert [peer.read() for _ in messages] == messages


def test_messages_in_the_segment_of_the_handshake_are_received(
    sock: Sock, said: Said, connect: Any
) -> None:
    sock.route("/")(recording(said))
    peer = connect(read_ahead=encode_message("one") + encode_message("two"))
    assert [peer.read(), peer.read()] == ["one", "two"]


@pytest.fixture
def nobody_else_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the monitor from seeing a close before the view has answered what came with it."""
    monkeypatch.setattr(Connection, "service", lambda self: None)


@pytest.mark.usefixtures("nobody_else_reads")
def test_a_close_in_the_segment_of_the_handshake_is_answered(
    sock: Sock, said: Said, connect: Any
) -> None:
    sock.route("/")(recording(said))
    peer = connect(read_ahead=encode_message("one") + encode_close(4001))
    assert peer.read() == "one"
    assert peer.read_close().close_code == 4001
    peer.expect_end()
    assert [said.next()[0] for _ in range(3)] == ["open", "message", "close"]


def test_a_message_in_fragments_is_one_call(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/")(recording(said))
    peer = connect()
    peer.send_frame(TEXT, b"frag", fin=False)
    peer.send_frame(PING, b"between")
    assert peer.read_opcode(PONG).payload == b"between"
    peer.send_frame(CONTINUATION, b"ments")
    assert peer.read() == "fragments"


def test_a_large_message_is_one_call(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/", max_message_size=3_000_000, max_outbox=4_000_000)(recording(said))
    data = bytes(range(256)) * 10_000
    peer = connect(pair=tcp_pair())
    sender = threading.Thread(target=peer.send, args=[data], daemon=True)
    sender.start()
    assert peer.read() == data
    sender.join(PATIENCE)


def test_a_method_may_run_for_long_in_one_of_several_threads(sock: Sock, connect: Any) -> None:
    go_on, there = threading.Event(), threading.Event()

    @sock.route("/<kind>")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket, kind: str) -> None:
            self.kind = kind

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            if self.kind == "slow":
                there.set()
                assert go_on.wait(PATIENCE)
            ws.send(message)

    slow, quick = connect("/slow"), connect("/quick")
    slow.send("hello")
    assert there.wait(PATIENCE)
    assert quick.echo("hello") == "hello"
    go_on.set()
    assert slow.read() == "hello"


def test_the_methods_of_one_connection_never_overlap(sock: Sock, said: Said, connect: Any) -> None:
    """However the messages come, and however long a method takes."""
    running = threading.Lock()

    @sock.route("/")
    class View(WebSocketView):
        def enter(self) -> None:
            assert running.acquire(False), "another method runs"
            # Long enough for another thread to come in, if it could.
            threading.Event().wait(0.002)
            running.release()

        def on_open(self, ws: WebSocket) -> None:
            self.count = 0
            self.enter()

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.enter()
            self.count += 1

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            self.enter()
            said.put((self.count, code))

    peer = connect()
    for _ in range(100):
        peer.send("hello")
    peer.close(4000)
    assert said.next() == (100, 4000)


# The request


def test_a_method_sees_its_request(app: Flask, sock: Sock, said: Said, connect: Any) -> None:
    class View(WebSocketView):
        def tell(self) -> None:
            said.put(
                (
                    request.path,
                    request.args["tag"],
                    request.headers["X-Word"],
                    request.cookies["crumb"],
                    request.view_args,
                    flask.current_app.name,
                    flask.url_for("here", room="there", _external=True),
                )
            )

        def on_open(self, ws: WebSocket, room: str) -> None:
            self.tell()

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.tell()

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            self.tell()

    sock.route("/<room>", endpoint="here")(View)
    peer = connect("/lobby?tag=t1", extra=[("X-Word", "a word"), ("Cookie", "crumb=sweet")])
    peer.send("hello")
    seen = said.next()
    peer.close()
    assert seen == (
        "/lobby",
        "t1",
        "a word",
        "sweet",
        {"room": "lobby"},
        app.name,
        "ws://localhost/there",
    )
    assert [said.next(), said.next()] == [seen, seen]


def test_a_method_sees_the_session_of_the_handshake(
    app: Flask, sock: Sock, said: Said, connect: Any
) -> None:
    @app.before_request
    def log_in() -> None:
        session["user"] = "ada"

    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(session["user"])

    assert connect().echo("who") == "ada"


def test_g_is_empty_in_each_call(app: Flask, sock: Sock, said: Said, connect: Any) -> None:
    @app.before_request
    def fill() -> None:
        g.word = "of the handshake"

    class View(WebSocketView):
        def tell(self) -> None:
            said.put(sorted(g))
            g.word = g.other = "of another call"

        def on_open(self, ws: WebSocket) -> None:
            self.tell()

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.tell()

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            self.tell()

    sock.route("/")(View)
    peer = connect()
    peer.send_bytes(encode_message("one") + encode_message("two"))
    peer.close()
    assert [said.next() for _ in range(4)] == [[], [], [], []]


def test_g_can_be_used_within_a_call(app: Flask, sock: Sock, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            g.word = message
            ws.send(g.word)

    assert connect().echo("hello") == "hello"


def test_teardown_functions_run_once_after_each_call(
    app: Flask, sock: Sock, said: Said, connect: Any
) -> None:
    app.teardown_request(lambda error: said.put(("request", error)))
    app.teardown_appcontext(lambda error: said.put(("app", error)))

    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            said.put("open")

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            said.put(message)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put("close")

    sock.route("/")(View)
    peer = connect()
    peer.send_bytes(encode_message("one") + encode_message("two"))
    peer.close()
    server_ends = [("request", None), ("app", None)]
    heard = [said.next() for _ in range(4 * 3 + len(server_ends))]
    # The handshake's own request ends at a time of its own.
    calls = [heard.index(name) for name in ("open", "one", "two", "close")]
    assert calls == sorted(calls)
    assert heard.count(("request", None)) == heard.count(("app", None)) == 5
    for position in calls:
        assert ("request", None) in heard[position:]
    assert said.nothing_more()


def test_teardown_functions_see_g_and_the_exception(
    app: Flask, sock: Sock, said: Said, connect: Any
) -> None:
    @app.teardown_request
    def tear_down(error: BaseException | None) -> None:
        said.put((g.get("word"), repr(error)))

    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            g.word = message
            raise RuntimeError("failed on purpose")

    connect().send("hello")
    heard = [said.next()]
    while heard[-1][0] is None:
        heard.append(said.next())
    assert heard[-1] == ("hello", "RuntimeError('failed on purpose')")


def test_a_context_variable_does_not_outlive_a_call_of_an_idle_connection(
    sock: Sock, said: Said, connect: Any
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    @sock.route("/")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            variable.set("of on_open")

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(variable.get())

    assert connect().echo("hello") == "unset"


def test_an_idle_connection_keeps_no_objects_of_the_server() -> None:
    heavy = object()
    light = lighten(
        {
            "PATH_INFO": "/",
            "HTTP_HOST": "localhost",
            "wsgi.url_scheme": "https",
            "wsgi.input": heavy,
            "gunicorn.socket": heavy,
            "werkzeug.socket": heavy,
            "eventlet.input": heavy,
            "flask_ws.server_socket": heavy,
            "a.middleware": "stays",
        }
    )
    assert heavy not in light.values()
    assert light["wsgi.url_scheme"] == "https"
    assert light["a.middleware"] == "stays"
    assert light["wsgi.input"].read() == b""


def test_the_environ_of_the_connection_has_its_path(sock: Sock, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(ws.environ["PATH_INFO"] + ws.environ["QUERY_STRING"])

    assert connect("/?tag=1").echo("where") == "/tag=1"


# Exceptions


METHODS = ("__init__", "on_open", "on_message", "on_close")


def failing(method: str, error: BaseException, said: Said) -> type[WebSocketView]:
    """A view of which one method raises."""

    def fail(self: WebSocketView, *args: object) -> None:
        if method == "on_close":
            said.put("close")
        raise error

    def close(self: WebSocketView, ws: WebSocket, code: int, reason: str) -> None:
        said.put("close")

    return type("Failing", (WebSocketView,), {"on_close": close, method: fail})


@pytest.mark.parametrize("method", METHODS[:3])
def test_an_exception_closes_with_1011(
    sock: Sock, said: Said, connect: Any, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    sock.route("/")(failing(method, RuntimeError("failed on purpose"), said))
    peer = connect()
    peer.send("hello")
    assert peer.answer_close().close_code == 1011


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_is_logged_as_flask_does_once(
    app: Flask,
    sock: Sock,
    said: Said,
    connect: Any,
    method: str,
    server: MemoryServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sock.route("/here")(failing(method, RuntimeError("failed on purpose"), said))
    peer = connect("/here")
    peer.send("hello")
    if method == "on_close":
        peer.close()
    else:
        peer.answer_close()
    server.close()
    until_none_is_open(server)
    records = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in records] == ["Exception on /here [GET]"]


@pytest.mark.parametrize("method", METHODS)
def test_an_exception_is_signalled_as_flask_does(
    app: Flask, sock: Sock, said: Said, connect: Any, method: str
) -> None:
    signals = Said()

    def receive(sender: Flask, exception: Exception, **kwargs: object) -> None:
        signals.put((sender, str(exception), request.path))

    sock.route("/here")(failing(method, RuntimeError("failed on purpose"), said))
    with flask.got_request_exception.connected_to(receive, app):
        peer = connect("/here")
        peer.send("hello")
        if method == "on_close":
            peer.close()
        else:
            peer.answer_close()
        assert signals.next() == (app, "failed on purpose", "/here")
    assert signals.nothing_more()


@pytest.mark.parametrize("method", METHODS[1:3])
def test_after_an_exception_on_close_is_called_once(
    sock: Sock, said: Said, connect: Any, method: str
) -> None:
    sock.route("/")(failing(method, RuntimeError("failed on purpose"), said))
    peer = connect()
    peer.send("hello")
    peer.answer_close()
    assert said.next() == "close"
    assert said.nothing_more()


def test_an_instance_that_was_never_made_is_not_told_of_the_end(
    sock: Sock, said: Said, connect: Any, server: MemoryServer
) -> None:
    sock.route("/")(failing("__init__", RuntimeError("failed on purpose"), said))
    connect().answer_close()
    until_none_is_open(server)
    assert said.nothing_more()


def test_no_message_follows_an_exception(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            said.put(message)
            raise RuntimeError("failed on purpose")

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put("close")

    peer = connect()
    peer.send_bytes(encode_message("one") + encode_message("two"))
    peer.send("three")
    peer.answer_close()
    assert [said.next(), said.next()] == ["one", "close"]


@pytest.mark.parametrize("hook", ["teardown_request", "teardown_appcontext"])
def test_an_exception_in_a_teardown_function_closes_with_1011(
    app: Flask, sock: Sock, said: Said, connect: Any, hook: str
) -> None:
    @getattr(app, hook)
    def fail(error: object) -> None:
        if g.get("failing"):
            raise RuntimeError("failed on purpose")

    @sock.route("/failing")
    class Failing(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            g.failing = True

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    peer = connect("/failing")
    peer.send("hello")
    assert peer.answer_close().close_code == 1011
    assert said.next() == 1011


def test_a_failing_teardown_request_does_not_prevent_teardown_appcontext(
    app: Flask, sock: Sock, said: Said, connect: Any
) -> None:
    @app.teardown_request
    def fail(error: object) -> None:
        if g.get("failing"):
            raise RuntimeError("failed on purpose")

    @app.teardown_appcontext
    def tear_down(error: object) -> None:
        if g.get("failing"):
            said.put("torn down")

    @sock.route("/failing")
    class Failing(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            g.failing = True

    connect("/failing").send("hello")
    assert said.next() == "torn down"


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_view_that_raises_system_exit_ends_its_connection_only(
    sock: Sock, said: Said, method: str, server: MemoryServer, app: Flask
) -> None:
    sock.route("/failing")(failing(method, SystemExit(), said))
    sock.route("/echo")(recording(said))
    # As often as would end every thread, and once more.
    for _ in range(5):
        call = server.call(app, "/failing", detachable=True)
        server.accepted(call)
        with call.peer as peer:
            # on_open has ended it already, perhaps.
            with contextlib.suppress(BrokenPipeError):
                peer.send_bytes(encode_message("hello") + encode_close(1000))
            peer.read_until_eof()
        # In the server's thread, where on_open runs, it is the server's to deal with.
        assert isinstance(call.ended.exception(PATIENCE), SystemExit | None)
    peer = server.connect(app, "/echo", detachable=True)
    assert peer.echo("hello") == "hello"


def test_on_close_follows_an_on_open_that_raises_system_exit(
    sock: Sock, said: Said, server: MemoryServer, app: Flask, place: dict[str, Any]
) -> None:
    sock.route("/")(failing("on_open", SystemExit(), said))
    call = server.call(app, "/", **place)
    server.accepted(call)
    assert call.peer.read_close().close_code == 1001
    with contextlib.suppress(BrokenPipeError):
        call.peer.send_close(1001)
    assert said.next() == "close"
    assert said.nothing_more()


def test_in_the_servers_worker_the_peer_may_answer_the_goodbye(
    sock: Sock, said: Said, server: MemoryServer, app: Flask
) -> None:
    """As for a handler; a thread of the reactor has others to serve."""

    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise SystemExit

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    call = server.call(app, "/")
    server.accepted(call)
    call.peer.send("hello")
    assert call.peer.answer_close().close_code == 1001
    assert said.next() == 1001


def test_a_closed_connection_elsewhere_is_no_exception(
    sock: Sock, said: Said, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Sending to another connection that has gone needs no try in every method."""
    everybody: list[WebSocket] = []

    @sock.route("/")
    class Chat(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            everybody.append(ws)
            said.put("open")

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            for other in reversed(everybody):
                other.send(message)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put("close")

    peer = connect()
    assert said.next() == "open"
    gone = connect()
    assert said.next() == "open"
    gone.close()
    assert said.next() == "close"
    peer.send("hello")
    peer.send_frame(PING, b"still there")
    assert peer.read_opcode(PONG).payload == b"still there"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


# The end


def test_a_close_from_the_client_has_its_code_and_reason(
    sock: Sock, said: Said, connect: Any
) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put((code, reason, ws.connected, ws.close_code))

    connect().close(4000, "enough")
    assert said.next() == (4000, "enough", False, 4000)


def test_a_close_without_a_code_is_1005(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/")(recording(said))
    connect().close(None)
    assert [said.next(), said.next()][1] == ("close", 1005)


def test_a_close_from_the_view_has_its_code(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.close(4001, "so")
            said.put("closed")

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put((code, reason))

    peer = connect()
    peer.send("hello")
    frame = peer.answer_close()
    assert (frame.close_code, frame.close_reason) == (4001, "so")
    assert [said.next(), said.next()] == ["closed", (4001, "so")]


def test_a_close_in_on_open_is_the_end(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            ws.close(4001)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    assert connect().answer_close().close_code == 4001
    assert said.next() == 4001


def test_a_close_from_another_thread_ends_an_idle_connection(
    sock: Sock, said: Said, connect: Any
) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            said.put(ws)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    peer = connect()
    said.next().close(4002)
    assert peer.answer_close().close_code == 4002
    assert said.next() == 4002


def test_no_message_follows_a_close_of_the_views_own(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            said.put(message)
            ws.close(4001)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    peer = connect()
    peer.send_bytes(encode_message("one") + encode_message("two"))
    peer.answer_close()
    assert [said.next(), said.next()] == ["one", 4001]


def test_a_peer_that_does_not_answer_a_close_is_lost(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/", close_timeout=0.1)
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.close(4001)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    peer = connect()
    peer.send("hello")
    assert peer.read_close().close_code == 4001
    peer.expect_end()
    assert said.next() == 1006


def test_a_second_close_does_nothing(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.close(4001)
            ws.close(4002)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            ws.close(4003)
            said.put(code)

    peer = connect()
    peer.send("hello")
    assert peer.answer_close().close_code == 4001
    assert said.next() == 4001


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000])
def test_a_code_that_may_not_be_sent_is_refused(sock: Sock, connect: Any, code: int) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            with pytest.raises(ValueError, match="not a close code"):
                ws.close(code)
            ws.send("refused")

    assert connect().echo("hello") == "refused"


def test_a_lost_connection_is_1006(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/")(recording(said))
    peer = connect(pair=tcp_pair())
    peer.sock.close()
    assert [said.next(), said.next()][1] == ("close", 1006)


def test_a_reset_connection_is_1006(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/")(recording(said))
    connect(pair=tcp_pair()).reset()
    assert [said.next(), said.next()][1] == ("close", 1006)


VIOLATIONS = {
    "a reserved opcode": (encode_frame(0x3, b"x"), 1002),
    "no mask": (encode_frame(TEXT, b"x", mask=None), 1002),
    "text that is no UTF-8": (encode_frame(TEXT, b"\xff\xff"), 1007),
    "too much": (encode_frame(BINARY, bytes(2000)), 1009),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_fails_the_connection(
    sock: Sock, said: Said, connect: Any, violation: str
) -> None:
    data, code = VIOLATIONS[violation]
    sock.route("/", max_message_size=1000)(recording(said))
    peer = connect(pair=tcp_pair())
    peer.send_bytes(data)
    assert peer.read_close().close_code == code
    assert [said.next(), said.next()][1] == ("close", code)
    peer.expect_end()


@pytest.mark.usefixtures("nobody_else_reads")
def test_messages_before_a_violation_are_received(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/")(recording(said))
    peer = connect(pair=tcp_pair())
    peer.send_bytes(encode_message("one") + encode_frame(0x3))
    assert peer.read() == "one"
    assert peer.read_close().close_code == 1002
    assert [said.next() for _ in range(3)][1:] == [("message", "one"), ("close", 1002)]


def test_a_peer_that_does_not_answer_pings_is_1006(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/", ping_interval=0.1, ping_timeout=0.1)(recording(said))
    peer = connect()
    peer.read_opcode(PING)
    assert [said.next(), said.next()][1] == ("close", 1006)


def test_a_peer_that_answers_pings_is_kept(sock: Sock, said: Said, connect: Any) -> None:
    sock.route("/", ping_interval=0.05, ping_timeout=0.3)(recording(said))
    peer = connect()
    for _ in range(4):
        peer.send_frame(PONG, peer.read_opcode(PING).payload)
    peer.send("hello")
    while (frame := peer.read_frame()).opcode == PING:
        pass
    assert frame.payload == b"hello"


def test_when_the_server_stops_the_code_is_1001(sock: Sock, said: Said, connect: Any) -> None:
    stopping = threading.Event()
    sock.route("/")(recording(said))
    peer = connect(is_stopping=stopping.is_set)
    stopping.set()
    assert peer.answer_close().close_code == 1001
    assert [said.next(), said.next()][1] == ("close", 1001)


def test_nothing_can_be_sent_in_on_close(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            with pytest.raises(ConnectionClosed) as caught:
                ws.send("too late")
            said.put(caught.value.code)

    connect().close(4000)
    assert said.next() == 4000


# Sending


def test_receive_is_refused_in_words(sock: Sock, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            with pytest.raises(RuntimeError, match="on_message"):
                ws.receive()
            with pytest.raises(RuntimeError, match="on_message"):
                ws.receive_json()
            with pytest.raises(RuntimeError, match="on_message"):
                list(ws)
            ws.send("refused")

    assert connect().echo("hello") == "refused"


def test_other_threads_may_send(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            said.put(ws)

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)

    peer = connect(pair=tcp_pair())
    ws = said.next()
    senders = [
        threading.Thread(
            target=lambda size=size: [ws.send(bytes([size % 251]) * size) for _ in range(20)],
            daemon=True,
        )
        for size in (10, 1000, 30_000)
    ]
    for sender in senders:
        sender.start()
    echoes = 0
    for number in range(3 * 20 + 10):
        if number < 10:
            peer.send("hello")
        message = peer.read()
        if message == "hello":
            echoes += 1
        else:
            assert len(set(message)) == 1
            assert message[0] == len(message) % 251
    assert echoes == 10
    for sender in senders:
        sender.join(PATIENCE)


def test_json_can_be_sent(sock: Sock, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send_json({"message": message})

    assert connect().echo("hello") == '{"message": "hello"}'


def test_a_ping_has_its_payload(sock: Sock, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.ping(b"hello")

    peer = connect()
    peer.send("hello")
    assert peer.read_opcode(PING).payload == b"hello"


def test_what_a_slow_reader_does_not_take_waits_for_it(
    sock: Sock, said: Said, connect: Any
) -> None:
    data = bytes(range(256)) * 40_000

    @sock.route("/", max_outbox=len(data) + 100)
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(data)
            said.put("sent")
            ws.send("end")

    peer = connect(pair=tcp_pair())
    peer.send("hello")
    assert said.next() == "sent"
    assert peer.read() == data
    assert peer.read() == "end"


def stall(sock: Sock, said: Said) -> None:
    """Declare a view that sends more than any reader who does not read may leave."""

    @sock.route("/stall", max_outbox=100_000, close_timeout=0.3)
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            try:
                while True:
                    ws.send(bytes(50_000))
            except ConnectionClosed as closed:
                said.put(closed.code)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(("close", code))


def test_a_reader_that_is_too_slow_is_closed_with_1013(
    sock: Sock, said: Said, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stall(sock, said)
    peer = connect("/stall", pair=tcp_pair())
    peer.send("hello")
    assert [said.next(), said.next()] == [1013, ("close", 1013)]
    assert peer.read_close(after="anything").close_code == 1013
    (record,) = [record for record in caplog.records if "SOCK_MAX_OUTBOX" in record.getMessage()]
    assert "/stall" in record.getMessage()
    assert record.levelno == logging.WARNING


def test_a_reader_that_reads_nothing_is_cut_off(
    sock: Sock, said: Said, connect: Any, server: MemoryServer
) -> None:
    stall(sock, said)
    peer = connect("/stall", pair=tcp_pair())
    peer.send("hello")
    until_none_is_open(server)
    assert [said.next(), said.next()] == [1013, ("close", 1013)]
    peer.sock.close()


def test_a_reader_that_reads_nothing_holds_no_thread(
    sock: Sock, said: Said, server: MemoryServer, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even once it has said that it sends no more, while there is something to send to it."""
    monkeypatch.setitem(reactor_module._reactors._made, None, Reactor(1))
    sock.route("/")(recording(Said()))

    @sock.route("/patient", max_outbox=8_000_000, close_timeout=PATIENCE)
    class Patient(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            try:
                while True:
                    ws.send(bytes(1_000_000))
            except ConnectionClosed as closed:
                said.put(closed.code)

    stalled = server.connect(app, "/patient", pair=tcp_pair(), detachable=True)
    other = server.connect(app, "/", detachable=True)
    stalled.send("hello")
    assert said.next() == 1013
    stalled.finish_sending()
    started = time.monotonic()
    for _ in range(20):
        assert other.echo("hello") == "hello"
    assert time.monotonic() - started < PATIENCE / 2


# While a method runs


class Blocking(WebSocketView):
    """Blocks in a method until the test lets it go on."""

    def __init__(self) -> None:
        self.there, self.go_on = threading.Event(), threading.Event()
        self.heard: list[str | bytes] = []

    def block(self) -> None:
        self.there.set()
        assert self.go_on.wait(PATIENCE)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.heard.append(message)
        if message == "block":
            self.block()
        else:
            ws.send(message)


@pytest.fixture
def blocking(sock: Sock, connect: Any) -> Iterator[Blocking]:
    """The only instance of a blocking view."""
    view = Blocking()
    type_ = type("Only", (Blocking,), {"__new__": lambda cls: view, "__init__": lambda self: None})
    view.__class__ = type_
    sock.route("/blocking", ping_interval=0.1, ping_timeout=0.2, max_queue=4)(type_)
    yield view
    view.go_on.set()


def block(peer: Peer, view: Blocking) -> None:
    peer.send("block")
    assert view.there.wait(PATIENCE)


def read_past_pings(peer: Peer) -> Any:
    while (frame := peer.read_frame()).opcode == PING:
        peer.send_frame(PONG, frame.payload)
    return frame


def test_a_ping_is_answered_while_a_method_runs(blocking: Blocking, connect: Any) -> None:
    peer = connect("/blocking")
    block(peer, blocking)
    peer.send_frame(PING, b"hello")
    frame = read_past_pings(peer)
    assert (frame.opcode, frame.payload) == (PONG, b"hello")


def test_a_peer_that_answers_pings_is_kept_while_a_method_runs(
    blocking: Blocking, connect: Any
) -> None:
    peer = connect("/blocking")
    block(peer, blocking)
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        peer.send_frame(PONG, peer.read_opcode(PING).payload)
    blocking.go_on.set()
    peer.send("hello")
    assert read_past_pings(peer).payload == b"hello"


def test_a_dead_peer_is_noticed_while_a_method_runs(blocking: Blocking, connect: Any) -> None:
    peer = connect("/blocking")
    block(peer, blocking)
    peer.read_opcode(PING)
    peer.expect_end(PATIENCE)


def test_a_close_is_noticed_while_a_method_runs(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            deadline = time.monotonic() + PATIENCE
            while ws.connected and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            said.put(ws.close_code)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(("close", code))

    peer = connect()
    peer.send("hello")
    peer.close(4000)
    assert [said.next(), said.next()] == [4000, ("close", 4000)]


def test_a_close_is_noticed_while_on_open_runs(sock: Sock, said: Said, connect: Any) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            deadline = time.monotonic() + PATIENCE
            while ws.connected and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            said.put(ws.close_code)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(("close", code))

    connect().close(4000)
    assert [said.next(), said.next()] == [4000, ("close", 4000)]


def test_messages_that_come_while_a_method_runs_follow_in_order(
    blocking: Blocking, connect: Any
) -> None:
    peer = connect("/blocking")
    block(peer, blocking)
    messages = [f"message {number}" for number in range(20)]
    for message in messages:
        peer.send(message)
    # Once a ping behind four of them was not answered, the rest waits in the kernel.
    pause = threading.Event()
    pause.wait(0.2)
    blocking.go_on.set()
    assert [read_past_pings(peer).payload.decode() for _ in messages] == messages


def test_messages_before_a_close_are_received_after_a_long_call(
    blocking: Blocking, connect: Any, server: MemoryServer
) -> None:
    peer = connect("/blocking")
    block(peer, blocking)
    peer.send_bytes(encode_message("one") + encode_message("two") + encode_close(4000))
    assert read_past_pings(peer).opcode == CLOSE
    blocking.go_on.set()
    peer.expect_end()
    until_none_is_open(server)
    assert blocking.heard == ["block", "one", "two"]


def test_messages_that_came_while_a_method_ran_are_dropped_if_it_closes(
    sock: Sock, said: Said, connect: Any
) -> None:
    go_on, there = threading.Event(), threading.Event()

    @sock.route("/", ping_interval=0.1)
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            said.put(message)
            there.set()
            assert go_on.wait(PATIENCE)
            ws.close(4001)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            said.put(code)

    peer = connect()
    peer.send("one")
    assert there.wait(PATIENCE)
    peer.send("two")
    peer.send_frame(PING, b"read this far")
    while peer.read_frame().opcode != PONG:
        pass
    go_on.set()
    while (frame := peer.read_frame()).opcode == PING:
        pass
    assert frame.close_code == 4001
    peer.send_close(4001)
    assert [said.next(), said.next()] == ["one", 4001]


def test_peers_that_wait_for_a_thread_are_kept(
    sock: Sock, said: Said, app: Flask, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pongs have come, although nobody has had the time to read them."""
    monkeypatch.setitem(reactor_module._reactors._made, None, Reactor(1))
    go_on, there = threading.Event(), threading.Event()

    @sock.route("/block")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            there.set()
            assert go_on.wait(PATIENCE)

    sock.route("/", ping_interval=0.05, ping_timeout=0.1)(recording(said))
    blocked = server.connect(app, "/block", detachable=True)
    waiting = server.connect(app, "/", detachable=True)
    dead = server.connect(app, "/", detachable=True)
    blocked.send("hello")
    assert there.wait(PATIENCE)
    waiting.send_frame(PONG, waiting.read_opcode(PING).payload)
    # One that says nothing at all is found dead meanwhile, and several times over.
    dead.read_opcode(PING)
    dead.expect_end(PATIENCE)
    threading.Event().wait(0.3)
    go_on.set()
    waiting.send("hello")
    while (frame := waiting.read_frame()).opcode == PING:
        waiting.send_frame(PONG, frame.payload)
    assert frame.payload == b"hello"
