from __future__ import annotations

import logging
import re
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import Flask, abort, g, got_request_exception, request
from tests.support.memory import MemoryServer, in_thread, tcp_pair
from tests.support.raw import (
    BINARY,
    CLOSE,
    PING,
    encode_frame,
    encode_message,
)
from tests.support.waiting import PATIENCE, until

from flask_ws import ConnectionClosed, Sock, WebSocket
from flask_ws.budget import budget
from flask_ws.concurrency import threads
from flask_ws.connection.endpoint import connection_of
from flask_ws.loop import monitor as monitor_module

Errors = list[Exception]


@pytest.fixture
def errors(app: Flask) -> Iterator[Errors]:
    """What was sent to got_request_exception."""
    errors: Errors = []

    def receiver(sender: Flask, exception: Exception) -> None:
        errors.append(exception)

    with got_request_exception.connected_to(receiver, app):
        yield errors


def records(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def wait_for_close(ws: WebSocket) -> None:
    for _ in ws:
        pass


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def fail(ws: WebSocket) -> None:
    raise RuntimeError("the handler's fault")


# The 101


def test_the_101_has_the_headers_of_the_handshake_and_no_others(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(wait_for_close)
    response = server.accepted(server.call(app))

    assert response.reason == "Switching Protocols"
    assert {name for name, _ in response.headers} == {
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Accept",
    }


def test_the_server_gets_the_headers_an_app_may_set(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(wait_for_close)
    call = server.call(app)
    server.accepted(call)
    call.peer.close()

    assert call.wait() == b""
    assert call.status == "101 Switching Protocols"
    assert [name for name, _ in call.headers] == [
        "Sec-WebSocket-Accept",
        "Content-Type",
        "Content-Length",
    ]


def test_the_server_is_given_its_101_when_the_handler_has_ended(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(wait_for_close)
    call = server.call(app)
    server.accepted(call)

    assert call.status == ""


def test_nothing_of_the_servers_reaches_the_client(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(wait_for_close)
    call = server.call(app, pair=tcp_pair())
    server.accepted(call)
    call.peer.send_close(1000)
    call.peer.read_close()
    call.wait()

    call.peer.expect_end()


@pytest.mark.unix
def test_a_client_that_has_gone_before_the_101_ends_the_handler(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    codes: list[int | None] = []

    @app.before_request
    def before() -> None:
        server.calls[-1].peer.sock.close()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        codes.append(ws.close_code)

    call = server.call(app)
    call.wait()

    assert codes == [1006]


def test_generator_middleware_may_be_around_the_app(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Iterator[bytes]:
        iterable = inner(environ, start_response)
        try:
            yield from iterable
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    app.wsgi_app = middleware  # type: ignore[method-assign]
    sock.route("/")(echo)
    call = server.call(app)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    call.peer.close()

    assert call.wait() == b""
    assert records(caplog) == []


@pytest.mark.parametrize("detach", [False, True])
def test_the_headers_of_a_request_count_as_long_as_its_connection_lives(
    app: Flask, sock: Sock, server: MemoryServer, detach: bool
) -> None:
    sock.route("/")(echo)
    before = budget.total
    call = server.call(app, extra=[("Cookie", "b" * 50_000)], detach=detach)
    server.accepted(call)
    assert call.peer.echo("hello") == "hello"
    assert 50_000 < budget.total - before < 60_000
    call.peer.close()
    call.wait()

    until(lambda: budget.total == before)


@pytest.mark.usefixtures("counted_from_nothing")
def test_a_process_holds_no_more_than_its_option_says(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["SOCK_MAX_BUFFERED"] = 100_000
    sock.route("/")(echo)
    call = server.call(app)
    server.accepted(call)
    call.peer.send_frame(BINARY, bytes(200_000), fin=False)

    assert call.peer.read_close().close_code == 1009
    until(lambda: "SOCK_MAX_BUFFERED" in caplog.text)


# What the handler talks to


def test_a_handler_echoes(app: Flask, sock: Sock, server: MemoryServer) -> None:
    sock.route("/")(echo)
    peer = server.connect(app)

    assert [peer.echo("Grüße 🐘"), peer.echo(b"\xff")] == ["Grüße 🐘", b"\xff"]
    peer.close()


def test_bytes_that_the_server_has_read_ahead_are_not_lost(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(echo)
    early = encode_message("one") + encode_message("two")
    peer = server.connect(app, read_ahead=lambda: early)

    assert [peer.read(), peer.read()] == ["one", "two"]
    peer.close()


def test_half_a_frame_that_the_server_has_read_ahead_is_not_lost(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(echo)
    frame = encode_message("hello")
    peer = server.connect(app, read_ahead=frame[:5])
    peer.send_bytes(frame[5:])

    assert peer.read() == "hello"
    peer.close()


def test_a_handler_has_its_subprotocol(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/", subprotocols=["b"])
    def handler(ws: WebSocket) -> None:
        ws.send(str(ws.subprotocol))

    peer = server.connect(app, extra=[("Sec-WebSocket-Protocol", "a, b")])

    assert peer.read() == "b"
    peer.answer_close()


def test_a_handler_has_the_environ(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(ws.environ["QUERY_STRING"])

    peer = server.connect(app, "/?a=1")

    assert peer.read() == "a=1"
    peer.answer_close()


def test_json_is_that_of_the_app(app: Flask, sock: Sock, server: MemoryServer) -> None:
    if hasattr(app, "json"):
        app.json.sort_keys = False  # type: ignore[attr-defined]
    else:
        # Flask < 2.2
        app.config["JSON_SORT_KEYS"] = False

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json({"b": 1, "a": 2})

    peer = server.connect(app)

    assert peer.read() == '{"b": 1, "a": 2}'
    peer.answer_close()


def test_messages_are_compressed_where_the_client_offers_it(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("hello " * 1000)

    peer = server.connect(app, extra=[("Sec-WebSocket-Extensions", "permessage-deflate")])
    frame = peer.read_frame()

    assert frame.rsv == 4
    assert len(frame.payload) < 100
    peer.answer_close()


# Options of the route in effect


def test_a_message_past_the_limit_of_the_route_ends_the_connection(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/", max_message_size=100)(echo)
    peer = server.connect(app)
    peer.send(bytes(101))

    assert peer.read_close().close_code == 1009


def test_a_message_past_the_limit_of_the_app_ends_the_connection(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.config["SOCK_MAX_MESSAGE_SIZE"] = 100
    sock.route("/")(echo)
    peer = server.connect(app)
    peer.send(bytes(101))

    assert peer.read_close().close_code == 1009


def test_the_limit_holds_after_inflation(app: Flask, sock: Sock, server: MemoryServer) -> None:
    sock.route("/", max_message_size=1000)(echo)
    peer = server.connect(app, extra=[("Sec-WebSocket-Extensions", "permessage-deflate")])
    deflate = zlib.compressobj(wbits=-12)
    bomb = deflate.compress(bytes(100_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)[:-4]
    peer.send_bytes(encode_frame(BINARY, bomb, rsv=4))

    assert peer.read_close().close_code == 1009


def test_a_quiet_client_is_pinged(app: Flask, sock: Sock, server: MemoryServer) -> None:
    sock.route("/", ping_interval=0.05)(wait_for_close)
    peer = server.connect(app)

    assert peer.read_opcode(PING)


def test_a_dead_client_ends_the_handler(app: Flask, sock: Sock, server: MemoryServer) -> None:
    codes: list[int] = []

    @sock.route("/", ping_interval=0.05, ping_timeout=0.05)
    def handler(ws: WebSocket) -> None:
        try:
            ws.receive()
        except ConnectionClosed as closed:
            codes.append(closed.code)

    call = server.call(app)
    server.accepted(call)
    call.wait()

    assert codes == [1006]


def test_a_client_that_answers_no_close_is_dropped_after_close_timeout(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/", close_timeout=0.05)(lambda ws: None)
    call = server.call(app)
    server.accepted(call)
    call.peer.read_close()

    call.wait()


def test_a_server_that_stops_closes_with_1001(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "TICK", 0.02)
    stopping = threading.Event()
    sock.route("/", ping_interval=0.08)(wait_for_close)
    call = server.call(app, is_stopping=stopping.is_set)
    server.accepted(call)
    stopping.set()
    while (frame := call.peer.read_frame()).opcode != CLOSE:
        assert frame.opcode == PING
    call.peer.send_bytes(encode_frame(CLOSE, frame.payload))
    call.wait()

    assert frame.close_code == 1001


# The end of the handler


def test_a_handler_that_returns_closes_with_1000(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: None)
    frame = server.connect(app).answer_close()

    assert (frame.close_code, frame.close_reason) == (1000, "")


def test_a_handler_that_returns_after_the_goodbye_leaves_time_for_the_answer(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        connection_of(ws).go_away(1001, "the server is stopping")

    peer = server.connect(app)
    peer.read_close()
    # The server would have closed the connection by now.
    peer.expect_silence(0.1)
    peer.send_close(1001)
    peer.expect_end()


def test_what_a_handler_returns_does_not_matter(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: ("an HTTP response", 500))

    assert server.connect(app).answer_close().close_code == 1000


def test_a_handler_may_close_with_a_code_of_its_own(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: ws.close(4000, "bye"))
    frame = server.connect(app).answer_close()

    assert (frame.close_code, frame.close_reason) == (4000, "bye")


def test_a_handler_ends_when_the_client_closes(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(wait_for_close)
    call = server.call(app)
    server.accepted(call)
    call.peer.close()

    call.wait()


def test_a_client_that_closes_gets_its_code_back(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(wait_for_close)

    assert server.connect(app).close(4000).close_code == 4000


def test_a_handler_that_raises_closes_with_1011(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(fail)

    assert server.connect(app).answer_close().close_code == 1011


def test_the_client_is_not_told_what_a_handler_raised(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(fail)

    assert server.connect(app).answer_close().close_reason == ""


def test_what_a_handler_raises_is_signalled_once(
    app: Flask, sock: Sock, server: MemoryServer, errors: Errors
) -> None:
    sock.route("/")(fail)
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    call.wait()

    assert [str(error) for error in errors] == ["the handler's fault"]


def test_what_a_handler_raises_is_logged_once_with_a_traceback(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    sock.route("/feed")(fail)
    call = server.call(app, "/feed")
    server.accepted(call)
    call.peer.answer_close()
    call.wait()
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert record.getMessage() == "Exception on /feed [GET]"
    assert record.exc_info is not None
    assert record.exc_info[0] is RuntimeError


def test_a_handler_that_raises_is_a_101_to_the_server(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(fail)
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()

    assert call.wait() == b""
    assert call.status == "101 Switching Protocols"


@pytest.mark.parametrize("key", ["TESTING", "DEBUG", "PROPAGATE_EXCEPTIONS"])
def test_what_a_handler_raises_never_reaches_the_server(
    app: Flask, sock: Sock, server: MemoryServer, key: str
) -> None:
    """Which would write a 500 for it."""
    app.config[key] = True
    sock.route("/")(fail)
    call = server.call(app)
    server.accepted(call)

    assert call.peer.answer_close().close_code == 1011
    call.wait()


def test_an_abort_in_a_handler_is_an_exception_like_any_other(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: abort(401))
    call = server.call(app, pair=tcp_pair())
    server.accepted(call)

    assert call.peer.answer_close().close_code == 1011


def test_error_handlers_do_not_see_what_a_handler_raises(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    seen: Errors = []

    def on_error(error: Exception) -> str:
        seen.append(error)
        return ""

    app.register_error_handler(Exception, on_error)
    sock.route("/")(fail)
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    call.wait()

    assert seen == []


def test_a_closed_connection_in_a_handler_is_no_error(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    errors: Errors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sock.route("/")(lambda ws: ws.receive())
    call = server.call(app)
    server.accepted(call)
    call.peer.close()
    call.wait()

    assert (errors, records(caplog)) == ([], [])


def test_a_lost_connection_in_a_handler_is_no_error(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    errors: Errors,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sock.route("/")(lambda ws: ws.receive())
    call = server.call(app)
    server.accepted(call)
    call.peer.sock.close()
    call.wait()

    assert (errors, records(caplog)) == ([], [])


def test_a_connection_closed_elsewhere_closes_with_1000(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """The handler may have lost a connection that it had opened itself."""

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise ConnectionClosed(1006, "another one")

    assert server.connect(app).answer_close().close_code == 1000


# The server does not come back to drain the dead socket.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
class GreenletExit(BaseException):
    """As greenlet's own, which a pool that is stopped raises in its greenlets."""


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GreenletExit])
def test_a_handler_that_is_made_to_stop_closes_with_1001(
    app: Flask, sock: Sock, server: MemoryServer, error: type[BaseException]
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise error

    call = server.call(app)
    server.accepted(call)

    assert call.peer.answer_close().close_code == 1001


# The server does not come back to drain the dead socket.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GreenletExit])
def test_what_makes_a_handler_stop_reaches_the_server(
    app: Flask, sock: Sock, server: MemoryServer, error: type[BaseException]
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise error

    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()

    with pytest.raises(error):
        call.wait()


def test_after_the_end_of_the_handler_tcp_ends(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: ws.send("last"))
    peer = server.connect(app, pair=tcp_pair())

    assert peer.read() == "last"
    peer.answer_close()


def test_a_violation_ends_the_handler_without_an_error(
    app: Flask, sock: Sock, server: MemoryServer, errors: Errors
) -> None:
    sock.route("/")(wait_for_close)
    call = server.call(app)
    server.accepted(call)
    call.peer.send_frame(0x3)
    assert call.peer.read_close().close_code == 1002
    call.peer.sock.close()
    call.wait()

    assert errors == []


def test_another_thread_may_send_while_the_handler_receives(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        in_thread(ws.send, "from another thread").result(PATIENCE)
        wait_for_close(ws)

    peer = server.connect(app)

    assert peer.read() == "from another thread"
    peer.close()


def test_a_thread_that_outlives_the_handler_finds_the_connection_closed(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    kept: list[WebSocket] = []
    sock.route("/")(kept.append)
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    call.wait()

    with pytest.raises(ConnectionClosed):
        kept[0].send("late")


def test_the_monitor_does_not_keep_a_connection_that_has_ended(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    kept: list[WebSocket] = []
    sock.route("/")(kept.append)
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    call.wait()

    assert connection_of(kept[0]) not in monitor_module.monitor_for(threads)._watches


# Teardown


def add_teardown(app: Flask, order: list[str]) -> None:
    app.teardown_request(lambda error: order.append("teardown_request"))
    app.teardown_appcontext(lambda error: order.append("teardown_appcontext"))


def test_teardown_functions_run_when_the_handler_has_ended(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    order: list[str] = []
    add_teardown(app, order)

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        wait_for_close(ws)
        order.append("handler")

    call = server.call(app)
    server.accepted(call)
    call.peer.close()
    call.wait()

    assert order == ["handler", "teardown_request", "teardown_appcontext"]


def test_teardown_functions_do_not_run_while_the_connection_is_open(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    order: list[str] = []
    add_teardown(app, order)
    sock.route("/")(echo)
    peer = server.connect(app)
    peer.echo("hello")

    assert order == []
    peer.close()


def test_teardown_functions_run_once_after_a_handler_that_raises(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    order: list[str] = []
    add_teardown(app, order)
    sock.route("/")(fail)
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    call.wait()

    assert order == ["teardown_request", "teardown_appcontext"]


def test_teardown_functions_run_after_a_refusal(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    order: list[str] = []
    add_teardown(app, order)
    sock.route("/")(echo)
    server.refuse(app, extra=[("Origin", "http://evil.example")])

    assert order == ["teardown_request", "teardown_appcontext"]


def test_g_is_there_until_the_handler_ends(app: Flask, sock: Sock, server: MemoryServer) -> None:
    class Database:
        closed = False

    made: list[Database] = []

    @app.before_request
    def before() -> None:
        g.database = Database()
        made.append(g.database)

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        g.database.closed = True

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        for _ in ws:
            ws.send(str(g.database.closed))

    call = server.call(app)
    server.accepted(call)
    assert call.peer.echo("?") == "False"
    call.peer.close()
    call.wait()

    assert made[0].closed


def test_functions_registered_on_the_response_run_at_the_end(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    order: list[str] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.call_on_close(lambda: order.append("closed"))
        return response

    sock.route("/")(lambda ws: order.append("handler"))
    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    call.wait()

    assert order == ["handler", "closed"]


# The log


def test_a_connection_is_logged_from_its_beginning_to_its_end(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_ws")
    sock.route("/feed")(echo)
    call = server.call(app, "/feed")
    server.accepted(call)
    call.peer.echo("hello")
    call.peer.close(4000, "bye")
    call.wait()
    first, last = records(caplog, logging.DEBUG)

    name = first.removesuffix(" open")
    assert re.fullmatch("WebSocket [0-9a-f]{12} 127.0.0.1 /feed", name)
    assert last.startswith(f"{name} closed: 4000 bye, ")
    # The close frames count, and the 101.
    assert last.endswith(" s, 1 messages (22 bytes) in, 1 messages (143 bytes) out")


# Detached from the server's worker


@pytest.fixture
def detach() -> Iterator[dict[str, Any]]:
    """A server that has few workers, and a client over TCP."""
    one, other = tcp_pair()
    with one, other:
        yield {"detach": True, "pair": (one, other)}


def test_a_detached_handler_gives_the_server_its_worker_back(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    sock.route("/")(echo)
    call = server.call(app, **detach)
    server.accepted(call)
    call.wait()

    assert call.status == "101 Switching Protocols"
    assert call.peer.echo("hello") == "hello"
    call.peer.close()


def test_a_detached_handler_closes_cleanly(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    sock.route("/")(lambda ws: ws.send("last"))
    call = server.call(app, **detach)
    server.accepted(call)
    call.wait()

    assert call.peer.read() == "last"
    assert call.peer.answer_close().close_code == 1000


def test_a_detached_handler_that_raises_closes_with_1011(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any], errors: Errors
) -> None:
    sock.route("/")(fail)
    call = server.call(app, **detach)
    server.accepted(call)
    call.wait()

    assert call.peer.answer_close().close_code == 1011
    assert len(errors) == 1


def test_a_detached_handler_has_what_before_request_left(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    local = threading.local()

    @app.before_request
    def before() -> None:
        g.user = local.user = request.args["user"]

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        for _ in ws:
            ws.send_json([g.user, local.user, request.args["user"]])

    call = server.call(app, "/?user=me", **detach)
    server.accepted(call)
    call.wait()

    assert call.peer.echo("?") == '["me", "me", "me"]'
    call.peer.close()


def test_teardown_functions_run_once_when_a_detached_handler_has_ended(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    order: list[str] = []
    done = threading.Event()
    app.teardown_request(lambda error: order.append("teardown"))
    app.teardown_appcontext(lambda error: done.set())

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        wait_for_close(ws)
        order.append("handler")

    call = server.call(app, **detach)
    server.accepted(call)
    call.wait()
    assert order == []
    call.peer.close()
    assert done.wait(PATIENCE)

    assert order == ["handler", "teardown"]


def test_a_refusal_reaches_a_server_with_few_workers(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    sock.route("/")(echo)

    assert server.refuse(app, extra=[("Origin", "http://evil.example")], **detach).status == 403


def test_headers_of_after_request_are_on_the_101_of_a_detached_handler(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.headers["X-Request-Id"] = "5"
        return response

    sock.route("/")(echo)
    call = server.call(app, **detach)

    assert server.accepted(call).get("X-Request-Id") == "5"
    call.peer.close()


def test_bytes_read_ahead_are_not_lost_to_a_detached_handler(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any]
) -> None:
    sock.route("/")(echo)
    call = server.call(app, read_ahead=encode_message("early"), **detach)
    server.accepted(call)

    assert call.peer.read() == "early"
    call.peer.close()


@pytest.mark.parametrize("where", ["app", "route"])
def test_a_handler_stays_in_the_worker_where_that_is_wanted(
    app: Flask, sock: Sock, server: MemoryServer, detach: dict[str, Any], where: str
) -> None:
    if where == "app":
        app.config["SOCK_DETACH"] = False
        sock.route("/")(echo)
    else:
        sock.route("/", detach=False)(echo)
    call = server.call(app, **detach)
    server.accepted(call)
    call.peer.echo("hello")

    assert not call.ended.done()
    call.peer.close()
    call.wait()


def test_past_max_threads_a_handshake_is_refused(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.config["SOCK_MAX_THREADS"] = 1
    sock.route("/")(echo)
    first = server.connect(app, detach=True)
    response = server.refuse(app, detach=True)

    assert response.status == 503
    assert response.get("Retry-After")
    first.close()


def test_http_is_left_alone(app: Flask, sock: Sock, server: MemoryServer) -> None:
    names: list[str] = []

    @app.route("/")
    def page() -> str:
        names.append(threading.current_thread().name)
        return "a page"

    assert server.refuse(app, headers=[], detach=True).text == "a page"
    assert names != ["flask_ws.handler"]
