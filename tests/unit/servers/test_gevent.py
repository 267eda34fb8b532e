from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from gevent.pywsgi import WSGIServer
from werkzeug.middleware.lint import InputStream

from flask_ws import NoSocket, ServerSocket
from flask_ws_gevent import flask_ws_get_socket
from flask_ws_gevent.greenlets import greenlets

TIMEOUT = 5.0
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

Look = Callable[[dict[str, Any]], object]


class Untouchable:
    """An object of another server's, which no plugin but its own has any business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


OTHERS: dict[str, dict[str, Any]] = {
    "werkzeug": {"werkzeug.socket": Untouchable(), "SERVER_SOFTWARE": "Werkzeug/3.1"},
    "gunicorn": {"gunicorn.socket": Untouchable(), "SERVER_SOFTWARE": "gunicorn/27.0"},
    "eventlet": {"eventlet.input": Untouchable(), "eventlet.set_idle": Untouchable()},
    "waitress": {"waitress.client_disconnected": Untouchable(), "SERVER_SOFTWARE": "waitress"},
    "unknown": {},
}


class Worker:
    """As much of gunicorn's worker as says whether it is to stop."""

    def __init__(self) -> None:
        self.alive = True
        self.cfg = object()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.alive = False


class Server:
    """A real server in this thread. What it is asked, it answers within the request."""

    def __init__(self) -> None:
        self.server = WSGIServer(("127.0.0.1", 0), self._serve, log=None, error_log=None)
        self.server.start()
        self.port = int(self.server.server_port or 0)
        self._look: Look = flask_ws_get_socket

    def _serve(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self._found.set(self._look(environ))
        start_response("200 OK", [("Content-Length", "0"), ("Connection", "close")])
        return []

    def ask(self, look: Look, *, headers: bytes = b"", early: bytes = b"") -> Any:
        """Make a request, and return what `look` makes of its environ."""
        self._look = look
        self._found: gevent.event.AsyncResult[object] = gevent.event.AsyncResult()
        client = gevent.socket.create_connection(("127.0.0.1", self.port))
        try:
            client.sendall(HEAD[:-2] + headers + HEAD[-2:] + early)
            found = self._found.get(timeout=TIMEOUT)
            while client.recv(4096):
                pass
        finally:
            client.close()
        return found


@pytest.fixture
def server() -> Iterator[Server]:
    with gevent.Timeout(TIMEOUT):
        server = Server()
        yield server
        server.server.stop()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    before = signal.signal(signal.SIGTERM, worker.handle_exit)
    yield worker
    signal.signal(signal.SIGTERM, before)


def claim(environ: dict[str, Any]) -> ServerSocket:
    server_socket = flask_ws_get_socket(environ)
    assert server_socket is not None
    return server_socket


def test_a_request_of_the_server_is_claimed_with_its_socket(server: Server) -> None:
    port = server.ask(lambda environ: claim(environ).sock.getsockname()[1])
    assert port == server.port


@pytest.mark.parametrize("other", OTHERS)
def test_a_request_of_another_server_is_left_alone(other: str) -> None:
    environ = {"wsgi.input": Untouchable(), **OTHERS[other]}
    assert flask_ws_get_socket(environ) is None


def test_a_request_without_a_socket_below_its_body_is_told_why() -> None:
    environ = {"SERVER_SOFTWARE": "gevent/26.0", "wsgi.input": object()}
    with pytest.raises(NoSocket, match="put object in front of the server"):
        flask_ws_get_socket(environ)


def test_a_body_that_middleware_has_wrapped_is_looked_behind(server: Server) -> None:
    def look(environ: dict[str, Any]) -> int:
        environ["wsgi.input"] = InputStream(environ["wsgi.input"])
        port: int = claim(environ).sock.getsockname()[1]
        return port

    assert server.ask(look) == server.port


def test_a_handshake_that_gevent_websocket_has_answered_is_told_so() -> None:
    """It answers before the app is asked."""
    environ = {"SERVER_SOFTWARE": "gevent/26.0", "wsgi.websocket": object()}
    with pytest.raises(NoSocket, match="leave out its handler_class"):
        flask_ws_get_socket(environ)


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        (b"", None),
        (b"Content-Length: 0\r\n", "0"),
        (b"Content-Length: 0\r\nContent-Length: 0\r\n", "0,0"),
        (b"Content-Length: 0\r\ncontent-length: 5\r\n", "0,5"),
    ],
)
def test_a_length_that_was_repeated_is_said_to_be(
    server: Server, headers: bytes, length: str | None
) -> None:
    def look(environ: dict[str, Any]) -> object:
        claim(environ)
        return environ.get("CONTENT_LENGTH")

    assert server.ask(look, headers=headers) == length


def test_gevents_own_primitives_come_with_the_socket(server: Server) -> None:
    assert server.ask(claim).concurrency is greenlets


def test_the_handler_stays_in_its_greenlet(server: Server) -> None:
    assert not server.ask(claim).detach


def test_what_the_server_has_read_past_the_head_is_taken(server: Server) -> None:
    taken = server.ask(lambda environ: claim(environ).take_read_ahead(), early=b"frames")
    assert taken == b"frames"


def test_taking_does_not_wait_for_a_client_that_sends_nothing(server: Server) -> None:
    assert server.ask(lambda environ: claim(environ).take_read_ahead()) == b""


def test_a_server_that_listens_is_not_stopping(server: Server) -> None:
    assert not server.ask(claim).is_stopping()


def test_a_server_that_was_closed_is_stopping(server: Server) -> None:
    is_stopping = server.ask(claim).is_stopping
    server.server.close()
    assert is_stopping()


def test_a_worker_of_gunicorns_that_got_sigterm_is_stopping(server: Server, worker: Worker) -> None:
    """It closes its servers only up to a second later."""
    is_stopping = server.ask(claim).is_stopping
    signal.raise_signal(signal.SIGTERM)
    assert is_stopping()


def test_a_worker_whose_sigterm_an_app_handles_is_stopping(server: Server, worker: Worker) -> None:
    signal.signal(signal.SIGTERM, functools.partial(worker.handle_exit))
    before = signal.signal(signal.SIGQUIT, worker.handle_exit)
    try:
        is_stopping = server.ask(claim).is_stopping
        signal.raise_signal(signal.SIGTERM)
        assert is_stopping()
    finally:
        signal.signal(signal.SIGQUIT, before)


def test_all_connections_of_a_server_ask_the_same_function(server: Server) -> None:
    """So that the monitor asks once for all of them."""
    questions = {server.ask(claim).is_stopping for _ in range(2)}
    assert len(questions) == 1


def test_a_request_in_a_greenlet_that_is_not_the_servers_never_stops(server: Server) -> None:
    """As where middleware hands requests on."""

    def look(environ: dict[str, Any]) -> object:
        return gevent.spawn(claim, environ).get(timeout=TIMEOUT)

    is_stopping = server.ask(look).is_stopping
    server.server.close()
    assert not is_stopping()


CLOSED_MEANWHILE = """
import gevent, gevent.socket
from flask_ws_gevent.greenlets import greenlets

one, other = gevent.socket.socketpair()
waiting = gevent.spawn(greenlets.wait_writable, one.fileno(), 5)
closing = gevent.spawn(one._sock.close)
gevent.joinall([waiting, closing], raise_error=True)
print("alive")
"""


def test_a_socket_may_be_closed_while_a_greenlet_waits_to_write() -> None:
    """gevent's loop aborts the process when it is to watch a number that is no descriptor."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSED_MEANWHILE], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.returncode) == ("alive\n", 0), done.stderr
