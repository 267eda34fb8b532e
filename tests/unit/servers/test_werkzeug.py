from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from tests.support.waiting import PATIENCE
from werkzeug.middleware.lint import InputStream
from werkzeug.serving import make_server
from werkzeug.wsgi import LimitedStream

from flask_ws import NoSocket, ServerSocket, Sock, WebSocket
from flask_ws_werkzeug import flask_ws_get_socket


class Untouchable:
    """An object of another server's, which no plugin but its own has any business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


OTHERS: dict[str, dict[str, Any]] = {
    "gunicorn": {"gunicorn.socket": Untouchable()},
    "eventlet": {"eventlet.input": Untouchable(), "eventlet.set_idle": Untouchable()},
    "gevent": {"SERVER_SOFTWARE": "gevent/26.0 Python/3.11"},
    "waitress": {"waitress.client_disconnected": Untouchable(), "SERVER_SOFTWARE": "waitress"},
    "unknown": {},
}


class Request:
    """A request as the server passes it on, and the client's end of its connection."""

    def __init__(self) -> None:
        self.client, self.sock = socket.socketpair()
        self.rfile = self.sock.makefile("rb")
        self.environ: dict[str, Any] = {
            "werkzeug.socket": self.sock,
            "wsgi.input": self.rfile,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
        }

    def claim(self, **changes: Any) -> ServerSocket:
        server_socket = flask_ws_get_socket({**self.environ, **changes})
        assert server_socket is not None
        return server_socket

    def close(self) -> None:
        self.rfile.close()
        self.sock.close()
        self.client.close()


@pytest.fixture
def request_() -> Iterator[Request]:
    request = Request()
    yield request
    request.close()


def test_a_request_of_the_server_is_claimed_with_its_socket(request_: Request) -> None:
    assert request_.claim().sock is request_.sock


@pytest.mark.parametrize("server", OTHERS)
def test_a_request_of_another_server_is_left_alone(server: str) -> None:
    environ = {"wsgi.input": Untouchable(), **OTHERS[server]}
    assert flask_ws_get_socket(environ) is None


def test_what_the_server_has_read_past_the_head_is_taken(request_: Request) -> None:
    request_.client.sendall(b"head\r\nframes")
    request_.rfile.readline()
    assert request_.claim().take_read_ahead() == b"frames"


def test_taking_does_not_wait_for_a_client_that_sends_nothing(request_: Request) -> None:
    request_.sock.settimeout(5)
    assert request_.claim().take_read_ahead() == b""


def test_nothing_is_taken_before_it_is_asked_for(request_: Request) -> None:
    request_.client.sendall(b"head\r\nbody")
    request_.rfile.readline()
    request_.claim()
    assert request_.rfile.read(4) == b"body"


def test_a_server_with_threads_keeps_the_handler(request_: Request) -> None:
    assert not request_.claim().detach


def test_a_server_without_threads_gets_rid_of_the_handler(request_: Request) -> None:
    assert request_.claim(**{"wsgi.multithread": False}).detach


def test_a_server_with_processes_keeps_the_handler(request_: Request) -> None:
    """The child that serves a request ends with it."""
    changes = {"wsgi.multithread": False, "wsgi.multiprocess": True}
    assert not request_.claim(**changes).detach


def test_an_idle_connection_outlives_a_request_on_a_thread(request_: Request) -> None:
    assert request_.claim().detachable


def test_no_connection_outlives_a_request_in_a_process_of_its_own(request_: Request) -> None:
    assert not request_.claim(**{"wsgi.multiprocess": True}).detachable


def test_a_body_that_middleware_has_wrapped_is_looked_behind(request_: Request) -> None:
    request_.client.sendall(b"head\r\nframes")
    request_.rfile.readline()
    wrapped = LimitedStream(InputStream(request_.rfile), 5)  # type: ignore[arg-type]
    assert request_.claim(**{"wsgi.input": wrapped}).take_read_ahead() == b"frames"


class MethodsAlone:
    """Keeps methods of the stream that it wraps, but not the stream."""

    def __init__(self, stream: Any) -> None:
        self.read = stream.read
        self.readline = stream.readline


def test_wrappers_that_keep_only_methods_are_looked_behind(request_: Request) -> None:
    request_.client.sendall(b"head\r\nframes")
    request_.rfile.readline()
    wrapped = MethodsAlone(InputStream(request_.rfile))
    assert request_.claim(**{"wsgi.input": wrapped}).take_read_ahead() == b"frames"


def test_a_body_that_cannot_be_looked_behind_is_told_so(request_: Request) -> None:
    with pytest.raises(NoSocket, match="put BytesIO in front of the server"):
        request_.claim(**{"wsgi.input": io.BytesIO()})


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (b"", None),
        (b"Content-Length: 0\r\n", "0"),
        (b"Content-Length: 0\r\nContent-Length: 0\r\n", "0,0"),
        (b"Content-Length: 5\r\ncontent-length: 0\r\n", "5,0"),
    ],
)
def test_a_length_that_was_repeated_is_said_to_be(headers: bytes, length: str | None) -> None:
    seen: list[str | None] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert flask_ws_get_socket(environ) is not None
        seen.append(environ.get("CONTENT_LENGTH"))
        start_response("204 No Content", [])
        return []

    server = make_server("127.0.0.1", 0, app)
    with server.socket, socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        server.handle_request()

    assert seen == [length]


class Claims:
    """An app that claims each of its requests, and keeps what it gets."""

    def __init__(self) -> None:
        self.server_sockets: list[ServerSocket] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        server_socket = flask_ws_get_socket(environ)
        assert server_socket is not None
        self.server_sockets.append(server_socket)
        start_response("204 No Content", [])
        return []


def test_a_server_is_stopping_once_it_is_closed() -> None:
    claims = Claims()
    server = make_server("127.0.0.1", 0, claims)
    with server.socket, socket.create_connection(("127.0.0.1", server.server_port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.handle_request()
        assert claims.server_sockets[0].is_stopping() is False
    assert claims.server_sockets[0].is_stopping()


def test_all_connections_of_a_server_and_no_other_ask_equally() -> None:
    claims = Claims()
    first, second = make_server("127.0.0.1", 0, claims), make_server("127.0.0.1", 0, claims)
    with first.socket, second.socket:
        for server in (first, first, second):
            with socket.create_connection(("127.0.0.1", server.server_port)) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                server.handle_request()
    one, same, other = (each.is_stopping for each in claims.server_sockets)
    assert one == same != other


@pytest.mark.parametrize("threaded", [True, False])
@pytest.mark.parametrize("detach", [None, False])
def test_clients_are_told_of_a_shutdown(threaded: bool, detach: bool | None) -> None:
    """Also where it waits for the handler, which is in the server's only thread."""
    app = Flask(__name__)
    if detach is not None:
        app.config["SOCK_DETACH"] = detach
    sock = Sock(app)

    @sock.route("/")
    def handle(ws: WebSocket) -> None:
        ws.receive()

    server = make_server("127.0.0.1", 0, app, threaded=threaded)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    serving.start()
    with socket.create_connection(("127.0.0.1", server.server_port), PATIENCE) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        reader = client.makefile("rb")
        while reader.readline() != b"\r\n":
            pass
        stopping = threading.Thread(target=server.shutdown, daemon=True)
        stopping.start()
        assert reader.read(4)[2:] == (1001).to_bytes(2, "big")
    stopping.join(PATIENCE)
    serving.join(PATIENCE)
    assert not serving.is_alive()
