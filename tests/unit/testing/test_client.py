from __future__ import annotations

import logging
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, g, request, session, url_for
from flask.testing import FlaskClient
from tests.support.errors import innermost
from werkzeug.test import Client
from werkzeug.wrappers import Response

from flask_ws import ConnectionClosed, Sock, WebSocket, WebSocketView
from flask_ws.connection.endpoint import connection_of
from flask_ws.plugin.manager import Plugins
from flask_ws.testing import ClientWebSocket, HandshakeRefused, connect

#: Seconds for what must come to pass.
PATIENCE = 10.0
#: Seconds for what must not.
MOMENT = 0.05
#: A timeout of a test that is to fail of it, but not of a slow machine.
SHORT = 1.0


class Mishap(Exception):
    """What handlers raise here."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Set at the end of the test, for handlers that wait for it; they are waited for."""
    event = threading.Event()
    before = set(threading.enumerate())
    yield event
    event.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)


@pytest.fixture
def echo(app: Flask, sock: Sock) -> Flask:
    @sock.route("/echo")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    return app


# Messages


@pytest.mark.parametrize("message", ["hello", "", "\N{SNOWMAN}", b"\x00\xff", b"", "x" * 100_000])
def test_messages_go_both_ways(echo: Flask, message: str | bytes) -> None:
    with connect(echo, "/echo") as ws:
        ws.send(message)
        assert ws.receive() == message


def test_the_timeout_may_be_longer_than_the_system_can_wait(echo: Flask) -> None:
    with connect(echo, "/echo", timeout=float("inf")) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_core_alone_is_enough(echo: Flask, no_plugins: Plugins) -> None:
    with connect(echo, "/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_iteration_ends_when_the_handler_returns(app: Flask, sock: Sock) -> None:
    @sock.route("/count")
    def count(ws: WebSocket) -> None:
        for number in range(3):
            ws.send(str(number))

    with connect(app, "/count") as ws:
        assert list(ws) == ["0", "1", "2"]


def test_a_message_in_the_same_segment_as_the_101_is_received(app: Flask, sock: Sock) -> None:
    """The client reads what there is, which may be more than the response."""

    @sock.route("/greet")
    def greet(ws: WebSocket) -> None:
        ws.send("welcome")

    for _ in range(50):
        with connect(app, "/greet") as ws:
            assert ws.receive() == "welcome"


def test_json_is_written_and_read_by_the_apps_provider(app: Flask, sock: Sock) -> None:
    class Provider:
        @staticmethod
        def dumps(data: object, **kwargs: object) -> str:
            return f"dumped {data}"

        @staticmethod
        def loads(text: str | bytes, **kwargs: object) -> str:
            return f"loaded {text!r}"

    app.json = Provider  # type: ignore[assignment]

    @sock.route("/raw")
    def raw(ws: WebSocket) -> None:
        ws.send(ws.receive())

    with connect(app, "/raw") as ws:
        ws.send_json(7)
        assert ws.receive_json() == "loaded 'dumped 7'"


def test_receive_returns_none_when_its_time_is_up(echo: Flask) -> None:
    with connect(echo, "/echo") as ws:
        assert ws.receive(timeout=MOMENT) is None


def test_receive_json_returns_none_when_its_time_is_up(echo: Flask) -> None:
    with connect(echo, "/echo") as ws:
        assert ws.receive_json(timeout=MOMENT) is None


def test_receive_without_a_timeout_fails_in_the_end(echo: Flask) -> None:
    with (
        connect(echo, "/echo", timeout=SHORT) as ws,
        pytest.raises(TimeoutError, match=f"sent no message within {SHORT} s"),
    ):
        ws.receive()


def test_a_timeout_shows_where_the_handler_is(
    app: Flask, sock: Sock, release: threading.Event
) -> None:
    @sock.route("/busy")
    def busy(ws: WebSocket) -> None:
        ws.send("begun")
        release.wait(PATIENCE)

    with connect(app, "/busy", timeout=SHORT) as ws:
        ws.receive()
        with pytest.raises(TimeoutError, match=r"in busy\n +release\.wait\(PATIENCE\)"):
            ws.receive()
        release.set()


def test_sending_to_a_handler_that_reads_nothing_fails_in_the_end(
    app: Flask, sock: Sock, release: threading.Event
) -> None:
    @sock.route("/busy")
    def busy(ws: WebSocket) -> None:
        release.wait(PATIENCE)

    with connect(app, "/busy", timeout=SHORT, compression=False) as ws:
        # A few are let in, and some are in the kernel's hands.
        with pytest.raises(TimeoutError, match="read nothing within"):  # noqa: PT012
            for _ in range(1000):
                ws.send(bytes(4096))
        release.set()


# The request


def test_the_handler_has_the_urls_variables(app: Flask, sock: Sock) -> None:
    @sock.route("/chat/<int:room>")
    def chat(ws: WebSocket, room: int) -> None:
        ws.send_json([room, request.path])

    with connect(app, "/chat/7") as ws:
        assert ws.receive_json() == [7, "/chat/7"]


def test_headers_are_sent(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(request.headers["X-One"])

    with connect(app, "/", headers={"X-One": "1"}) as ws:
        assert ws.receive() == "1"


def test_a_header_of_the_handshake_can_be_replaced(echo: Flask) -> None:
    with (
        pytest.raises(HandshakeRefused, match="426"),
        connect(echo, "/echo", headers={"Sec-WebSocket-Version": "8"}),
    ):
        pass


def test_a_query_string_is_sent(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json(request.args)

    with connect(app, "/", query_string={"a": "1"}) as ws:
        assert ws.receive_json() == {"a": "1"}


def test_what_url_for_makes_is_a_path(app: Flask, sock: Sock) -> None:
    """It makes whole URLs of WebSocket routes, of the scheme ``ws``."""

    @sock.route("/chat/<int:room>")
    def chat(ws: WebSocket, room: int) -> None:
        ws.send(request.url)

    with app.test_request_context():
        url = url_for("chat", room=1, q="x")
    with connect(app, url) as ws:
        assert ws.receive() == "http://localhost/chat/1?q=x"


def test_wss_is_a_secure_request(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json(request.is_secure)

    with connect(app, "wss://localhost/") as ws:
        assert ws.receive_json() is True


def test_a_route_of_a_blueprint_is_found(app: Flask, sock: Sock) -> None:
    blueprint = Blueprint("chat", __name__, url_prefix="/chat")

    @sock.route("/echo", bp=blueprint)
    def handler(ws: WebSocket) -> None:
        ws.send(ws.receive())

    app.register_blueprint(blueprint)
    with connect(app, "/chat/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_hooks_run_before_and_after(app: Flask, sock: Sock) -> None:
    @app.before_request
    def before() -> None:
        g.name = "g"

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-After"] = "after"
        return response

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(g.name)

    with connect(app, "/") as ws:
        assert (ws.receive(), ws.response.headers["X-After"]) == ("g", "after")


@pytest.mark.parametrize("offered", ["chat", ["soup", "chat"], ("chat",)])
def test_the_subprotocol_is_agreed_on(app: Flask, sock: Sock, offered: Any) -> None:
    @sock.route("/", subprotocols=["chat"])
    def handler(ws: WebSocket) -> None:
        ws.send(str(ws.subprotocol))

    with connect(app, "/", subprotocols=offered) as ws:
        assert (ws.subprotocol, ws.receive()) == ("chat", "chat")


def test_there_may_be_no_subprotocol(echo: Flask) -> None:
    with connect(echo, "/echo") as ws:
        assert ws.subprotocol is None


def test_compression_is_agreed_on(echo: Flask) -> None:
    with connect(echo, "/echo") as ws:
        assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]


def test_compression_can_be_left_out(echo: Flask) -> None:
    with connect(echo, "/echo", compression=False) as ws:
        assert "Sec-WebSocket-Extensions" not in ws.response.headers


def test_the_response_is_of_status_101(echo: Flask) -> None:
    with connect(echo, "/echo") as ws:
        assert ws.response.status_code == 101


# A test client


def test_a_clients_cookies_are_sent(app: Flask, sock: Sock) -> None:
    client = app.test_client()

    @app.route("/set")
    def set_cookie() -> Response:
        response = Response()
        response.set_cookie("flavour", "vanilla")
        return response

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(request.cookies["flavour"])

    client.get("/set")
    with connect(client, "/") as ws:
        assert ws.receive() == "vanilla"


def test_a_clients_session_is_the_handlers(app: Flask, sock: Sock) -> None:
    client = app.test_client()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(session["user"])

    with client.session_transaction() as transaction:
        transaction["user"] = "ada"
    with connect(client, "/") as ws:
        assert ws.receive() == "ada"


def test_cookies_of_the_101_are_the_clients(app: Flask, sock: Sock) -> None:
    client = app.test_client()

    @app.before_request
    def visit() -> None:
        session["visits"] = session.get("visits", 0) + 1

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        pass

    for _ in range(2):
        with connect(client, "/"):
            pass
    with client.session_transaction() as transaction:
        assert transaction["visits"] == 2


def test_cookies_of_a_refusal_are_the_clients(app: Flask, sock: Sock) -> None:
    client = app.test_client()

    @app.before_request
    def refuse() -> Response | None:
        if request.path == "/":
            return None
        session["refused"] = True
        abort(403)

    with pytest.raises(HandshakeRefused), connect(client, "/ws"):
        pass
    with client.session_transaction() as transaction:
        assert transaction["refused"] is True


def test_an_app_has_a_new_client_for_each_connection(app: Flask, sock: Sock) -> None:
    @app.before_request
    def visit() -> None:
        session["visits"] = session.get("visits", 0) + 1

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json(session["visits"])

    with connect(app, "/"):
        pass
    with connect(app, "/") as ws:
        assert ws.receive_json() == 1


def test_a_client_class_of_ones_own_makes_the_request(app: Flask, sock: Sock) -> None:
    class Authorised(FlaskClient):
        def open(self, *args: Any, **kwargs: Any) -> Any:
            kwargs["headers"]["Authorization"] = "Bearer token"
            return super().open(*args, **kwargs)

    app.test_client_class = Authorised

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(request.headers["Authorization"])

    with connect(app.test_client(), "/") as ws:
        assert ws.receive() == "Bearer token"


def test_a_client_may_be_in_use_as_a_context_manager(echo: Flask) -> None:
    with echo.test_client() as client, connect(client, "/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_the_client_goes_on_as_it_was(echo: Flask) -> None:
    client = echo.test_client()
    with connect(client, "/echo"):
        assert client.get("/nowhere").status_code == 404


def test_a_client_of_werkzeugs_will_do(echo: Flask) -> None:
    """As for an app inside of other middleware."""

    def middleware(environ: Any, start_response: Any) -> Any:
        environ["HTTP_X_SEEN"] = "1"
        return echo(environ, start_response)

    with connect(Client(middleware), "/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def test_two_clients_talk_at_once(app: Flask, sock: Sock) -> None:
    rooms: list[WebSocket] = []

    @sock.route("/room")
    def room(ws: WebSocket) -> None:
        rooms.append(ws)
        ws.send("joined")
        for message in ws:
            for member in rooms:
                member.send(message)

    with connect(app, "/room") as one, connect(app, "/room") as other:
        assert (one.receive(), other.receive()) == ("joined", "joined")
        one.send("hello")
        assert (one.receive(), other.receive()) == ("hello", "hello")


# Refusals


def test_a_refusal_is_raised_with_its_response(app: Flask, sock: Sock) -> None:
    @app.before_request
    def refuse() -> None:
        abort(401, "Who are you?")

    with pytest.raises(HandshakeRefused) as caught, connect(app, "/"):
        pass
    response = caught.value.response
    assert (response.status_code, "Who are you?" in response.get_data(as_text=True)) == (401, True)


def test_a_refusal_has_the_responses_headers(app: Flask, sock: Sock) -> None:
    @app.before_request
    def refuse() -> Response:
        return Response("wait", 429, {"Retry-After": "7"})

    with pytest.raises(HandshakeRefused) as caught, connect(app, "/"):
        pass
    assert caught.value.response.headers["Retry-After"] == "7"


def test_a_refusal_says_why(echo: Flask) -> None:
    with (
        pytest.raises(HandshakeRefused, match=r"(?i)403 forbidden: .*Origin 'http://evil' is not"),
        connect(echo, "/echo", headers={"Origin": "http://evil"}),
    ):
        pass


def test_an_http_route_refuses(app: Flask, sock: Sock) -> None:
    @app.route("/page")
    def page() -> str:
        return "a page"

    with pytest.raises(HandshakeRefused) as caught, connect(app, "/page"):
        pass
    assert caught.value.response.status_code in (200, 400)


def test_an_exception_before_the_handshake_is_raised_as_by_the_test_client(
    app: Flask, sock: Sock
) -> None:
    app.testing = True

    @app.before_request
    def fail() -> None:
        raise Mishap

    with pytest.raises(Mishap), connect(app, "/"):
        pass


def test_without_testing_such_an_exception_is_a_500(app: Flask, sock: Sock) -> None:
    @app.before_request
    def fail() -> None:
        raise Mishap

    with pytest.raises(HandshakeRefused, match="500"), connect(app, "/"):
        pass


def test_an_app_that_does_not_answer_fails_in_the_end(
    app: Flask, sock: Sock, release: threading.Event
) -> None:
    @app.before_request
    def wait() -> None:
        release.wait(PATIENCE)

    with (
        pytest.raises(TimeoutError, match=r"did not answer within(?s:.*)in wait\n"),
        connect(app, "/", timeout=SHORT),
    ):
        pass


# The end


def test_the_handlers_exception_is_raised(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise Mishap

    with pytest.raises(Mishap), connect(app, "/"):
        pass


def test_it_is_raised_although_the_test_has_failed(app: Flask, sock: Sock) -> None:
    """As it will, because the connection is closed; and the test's own failure is kept."""

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise Mishap

    with pytest.raises(Mishap) as caught, connect(app, "/") as ws:
        ws.receive()
    assert isinstance(caught.value.__context__, ConnectionClosed)


def test_its_own_context_is_kept(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        try:
            {"a": 1}["key"]
        except KeyError:
            raise Mishap  # noqa: B904

    with pytest.raises(Mishap) as caught, connect(app, "/") as ws:
        ws.receive()
    assert isinstance(caught.value.__context__, KeyError)
    assert isinstance(caught.value.__context__.__context__, ConnectionClosed)


def test_an_interrupt_stays_one(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise Mishap

    with pytest.raises(KeyboardInterrupt) as caught, connect(app, "/"):
        raise KeyboardInterrupt
    assert isinstance(caught.value.__context__, Mishap)


def test_its_close_code_can_be_looked_at(app: Flask, sock: Sock) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise Mishap

    with connect(app, "/") as ws:
        assert list(ws) == []
        assert ws.close_code == 1011


def test_where_exceptions_are_not_propagated_they_are_logged(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise Mishap

    with connect(app, "/"):
        pass
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Mishap]


def test_an_exception_that_is_raised_is_not_logged(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise Mishap

    with pytest.raises(Mishap), connect(app, "/"):
        pass
    assert caplog.records == []


# It leaves nobody to drain the connection's dead socket, which the garbage collector closes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_exception_of_a_teardown_function_is_raised(app: Flask, sock: Sock) -> None:
    @app.teardown_request
    def fail(error: BaseException | None) -> None:
        raise Mishap

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        pass

    with pytest.raises(Exception) as raised, connect(app, "/"):  # noqa: PT011
        pass
    assert isinstance(innermost(raised.value), Mishap)


def test_the_handlers_close_code_is_seen(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.close(4001, "enough")

    with connect(app, "/") as ws:
        with pytest.raises(ConnectionClosed):
            ws.receive()
        assert (ws.close_code, ws.close_reason) == (4001, "enough")


def test_the_handlers_close_code_is_seen_at_the_end(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.close(4001)

    with connect(app, "/") as ws:
        pass
    assert ws.close_code == 4001


@pytest.mark.parametrize("code", [1000, 1001, 4002])
def test_the_tests_close_code_is_seen(app: Flask, sock: Sock, code: int) -> None:
    seen: list[int | None] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert list(ws) == []
        seen.append(ws.close_code)

    with connect(app, "/") as ws:
        ws.close(code)
    assert seen == [code]


def test_the_end_of_the_block_closes_with_1000(app: Flask, sock: Sock) -> None:
    seen: list[int | None] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert list(ws) == []
        seen.append(ws.close_code)

    with connect(app, "/"):
        pass
    assert seen == [1000]


def test_a_dropped_connection_is_a_1006(app: Flask, sock: Sock) -> None:
    seen: list[int | None] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert list(ws) == []
        seen.append(ws.close_code)

    with connect(app, "/") as ws:
        ws.drop()
    assert seen == [1006]


def test_the_handler_has_returned_after_the_block(app: Flask, sock: Sock) -> None:
    events: list[str] = []

    @app.teardown_request
    def tear_down(error: BaseException | None) -> None:
        events.append("torn down")

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert list(ws) == []
        events.append("returned")

    with connect(app, "/"):
        assert events == []
    assert events == ["returned", "torn down"]


def test_a_handler_that_does_not_return_fails_the_test(
    app: Flask, sock: Sock, release: threading.Event
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert list(ws) == []
        release.wait(PATIENCE)

    with (
        pytest.raises(TimeoutError, match=r"handler has not returned(?s:.*)in handler\n"),
        connect(app, "/", timeout=SHORT),
    ):
        pass


def test_messages_that_nobody_received_do_not_matter(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        while True:
            ws.send(bytes(10_000))

    with connect(app, "/") as ws:
        ws.receive()


def test_a_test_that_is_slow_to_receive_loses_nothing(app: Flask, sock: Sock) -> None:
    sent = threading.Event()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        for number in range(100):
            ws.send(str(number))
        sent.set()

    with connect(app, "/") as ws:
        assert sent.wait(PATIENCE)
        assert list(ws) == [str(number) for number in range(100)]


# Event views


@pytest.mark.parametrize("detach", [True, False])
def test_an_event_views_methods_are_called(app: Flask, sock: Sock, detach: bool) -> None:
    app.config["SOCK_DETACH"] = detach
    events: list[tuple[Any, ...]] = []

    @sock.route("/chat/<room>")
    class Chat(WebSocketView):
        def on_open(self, ws: WebSocket, room: str) -> None:
            events.append(("open", room))

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            events.append(("message", message))
            ws.send(message)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            events.append(("close", code, reason))

    with connect(app, "/chat/lobby") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
        ws.close(4000, "bye")
    assert events == [("open", "lobby"), ("message", "hello"), ("close", 4000, "bye")]


@pytest.mark.parametrize("method", ["on_open", "on_message", "on_close"])
def test_an_event_views_exception_is_raised(app: Flask, sock: Sock, method: str) -> None:
    def fail(self: WebSocketView, ws: WebSocket, *args: object) -> None:
        raise Mishap(method)

    sock.route("/")(type("Failing", (WebSocketView,), {method: fail}))

    with pytest.raises(Mishap, match=method), connect(app, "/") as ws:
        ws.send("hello")


def test_of_two_exceptions_the_first_is_raised(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    @sock.route("/")
    class Failing(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            raise Mishap("first")

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            raise Mishap("second")

    with caplog.at_level(logging.ERROR), pytest.raises(Mishap, match="first"), connect(app, "/"):
        pass
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["second"]


def test_an_event_view_sees_a_dropped_connection(app: Flask, sock: Sock) -> None:
    codes: list[int] = []

    @sock.route("/")
    class View(WebSocketView):
        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            codes.append(code)

    with connect(app, "/") as ws:
        ws.drop()
    assert codes == [1006]


# Where it runs


@pytest.mark.parametrize("detach", [True, False])
def test_options_are_in_force(echo: Flask, detach: bool) -> None:
    echo.config["SOCK_DETACH"] = detach
    echo.config["SOCK_MAX_MESSAGE_SIZE"] = 10
    with connect(echo, "/echo") as ws:
        ws.send("x" * 11)
        with pytest.raises(ConnectionClosed):
            ws.receive()
        assert ws.close_code == 1009


def test_connections_are_counted(echo: Flask) -> None:
    echo.config["SOCK_MAX_CONNECTIONS"] = 1
    with connect(echo, "/echo") as ws:
        ws.send("counted")
        assert ws.receive() == "counted"
        with pytest.raises(HandshakeRefused, match="503"), connect(echo, "/echo"):
            pass


def test_a_ping_is_answered_while_the_test_receives(app: Flask, sock: Sock) -> None:
    app.config.update(SOCK_PING_INTERVAL=0.02, SOCK_PING_TIMEOUT=PATIENCE)
    answered = threading.Event()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        connection = connection_of(ws)
        before = connection.bytes_received
        while connection.bytes_received == before:
            assert ws.receive(timeout=0.02) is None
        answered.set()
        ws.send("alive")

    with connect(app, "/") as ws:
        assert ws.receive() == "alive"


def test_the_repr_tells_path_and_state(echo: Flask) -> None:
    with connect(echo, "/echo") as ws:
        assert repr(ws) == "<ClientWebSocket /echo open>"
    assert repr(ws) == "<ClientWebSocket /echo closed 1000>"


class UnittestCase(unittest.TestCase):
    """Run by unittest's own runner, below."""

    def setUp(self) -> None:
        self.app = Flask("unittest")
        sock = Sock(self.app)

        @sock.route("/echo")
        def echo(ws: WebSocket) -> None:
            for message in ws:
                if message == "fail":
                    raise Mishap
                ws.send(message)

    def test_echo(self) -> None:
        with connect(self.app, "/echo") as ws:
            ws.send("hello")
            self.assertEqual(ws.receive(), "hello")  # noqa: PT009

    def test_failure(self) -> None:
        with self.assertRaises(Mishap), connect(self.app, "/echo") as ws:  # noqa: PT027
            ws.send("fail")
            ws.receive()


UnittestCase.__test__ = False  # type: ignore[attr-defined]


def test_unittest_runs_it() -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(UnittestCase).run(result)
    assert (result.testsRun, result.errors, result.failures) == (2, [], [])


PATCHED = """
import sys, warnings
warnings.simplefilter("ignore")
if sys.argv[1] == "gevent":
    from gevent import monkey
    monkey.patch_all()
else:
    import eventlet
    eventlet.monkey_patch()

from flask import Flask
from flask_ws import Sock
from flask_ws.testing import connect

app = Flask("patched")
# With a handler that has no logger, CPython 3.10's logging fails in greenlets as it exits.
app.logger

@Sock(app).route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)

with connect(app, "/echo") as ws:
    ws.send("hello")
    assert ws.receive(timeout=0.01) == "hello" or ws.receive() == "hello"
assert ws.close_code == 1000, ws.close_code
print("done")
"""


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_it_works_in_a_monkey_patched_process(library: str) -> None:
    pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-c", PATCHED, library],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("done", "")


def test_a_fixture_may_hold_the_connection(echo: Flask) -> None:
    """``yield`` from within the block, as pytest's fixtures do."""

    def fixture() -> Iterator[ClientWebSocket]:
        with connect(echo, "/echo") as ws:
            yield ws

    generator = fixture()
    next(generator).send("hello")
    assert next(generator, None) is None


def test_a_handshake_can_be_repeated(echo: Flask) -> None:
    """What connect() returns opens a connection each time."""
    connecting = connect(echo, "/echo")
    for _ in range(2):
        with connecting as ws:
            ws.send("hello")
            assert ws.receive() == "hello"
