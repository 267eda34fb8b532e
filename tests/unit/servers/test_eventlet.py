from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from greenlet import GreenletExit
from gunicorn.config import Config

with warnings.catch_warnings():
    # Eventlet says that it is deprecated.
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.green.socket
    import eventlet.wsgi

    import flask_ws_eventlet
    from flask_ws_eventlet import flask_ws_get_socket
    from flask_ws_eventlet.greenlets import greenlets
    from flask_ws_eventlet.worker import EventletWorker, WorkerSocket

from flask_ws import ServerSocket

TIMEOUT = 5.0
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

Look = Callable[[dict[str, Any]], object]


class Untouchable:
    """An object of another server's, which no plugin but its own has any business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


OTHERS: dict[str, dict[str, Any]] = {
    "werkzeug": {"werkzeug.socket": Untouchable(), "SERVER_SOFTWARE": "Werkzeug/3.1"},
    "gunicorn": {"gunicorn.socket": Untouchable(), "SERVER_SOFTWARE": "gunicorn/27.0"},
    "gevent": {"SERVER_SOFTWARE": "gevent/26.0 Python/3.11"},
    "waitress": {"waitress.client_disconnected": Untouchable(), "SERVER_SOFTWARE": "waitress"},
    "unknown": {},
}


class Server:
    """A real server in this thread. What it is asked, it answers within the request."""

    def __init__(self, path: str | None = None) -> None:
        self._family = socket.AF_INET if path is None else socket.AF_UNIX
        self._listener = eventlet.listen(path or ("127.0.0.1", 0), family=self._family)
        self._address = self._listener.getsockname()
        self.port = self._address[1]
        self._look: Look = flask_ws_get_socket
        self._interrupted = False
        self._serving = eventlet.spawn(
            eventlet.wsgi.server, self._listener, self._serve, log=io.StringIO()
        )

    def _serve(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self._found.send(self._look(environ))
        start_response("200 OK", [("Content-Length", "0"), ("Connection", "close")])
        return []

    def ask(self, look: Look, *, request: bytes = REQUEST, early: bytes = b"") -> Any:
        """Make a request, and return what `look` makes of its environ."""
        self._look = look
        self._found = eventlet.Event()
        client = eventlet.connect(self._address, family=self._family)
        try:
            client.sendall(request + early)
            found = self._found.wait(TIMEOUT)
            while client.recv(4096):
                pass
        finally:
            client.close()
        return found

    def interrupt(self) -> None:
        """Stop accepting, as Ctrl-C does; return while the connections' handlers run."""
        if not self._interrupted:
            self._interrupted = True
            eventlet.kill(self._serving, KeyboardInterrupt)


@pytest.fixture
def server() -> Iterator[Server]:
    with eventlet.Timeout(TIMEOUT):
        server = Server()
        yield server
        server.interrupt()


def claim(environ: dict[str, Any]) -> ServerSocket:
    server_socket = flask_ws_get_socket(environ)
    assert server_socket is not None
    return server_socket


class LooksAlike:
    """As Engine.IO puts one into the environs of other servers, for libraries beside it."""

    def get_socket(self) -> socket.socket:
        raise AssertionError("asked for the socket of another server")


def test_an_input_that_only_looks_like_the_servers_is_left_alone() -> None:
    environ = {"eventlet.input": LooksAlike(), "SERVER_SOFTWARE": "gunicorn/27.0"}
    assert flask_ws_get_socket(environ) is None


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_the_version_of_the_request_is_said(server: Server, version: str) -> None:
    """The server says 1.0 of all."""

    def look(environ: dict[str, Any]) -> object:
        claim(environ)
        return environ["SERVER_PROTOCOL"]

    request = REQUEST.replace(b"HTTP/1.1", version.encode())
    assert server.ask(look, request=request) == version


@pytest.mark.parametrize(("second", "length"), [(b"0", "0,0"), (b"5", "0,5")])
def test_a_length_that_was_repeated_is_said_to_be(
    server: Server, second: bytes, length: str
) -> None:
    def look(environ: dict[str, Any]) -> object:
        claim(environ)
        return environ["CONTENT_LENGTH"]

    headers = b"Content-Length: 0\r\nContent-Length: " + second + b"\r\n"
    request = REQUEST.replace(b"Connection:", headers + b"Connection:")
    assert server.ask(look, request=request) == length


def test_a_request_of_the_server_is_claimed_with_its_socket(server: Server) -> None:
    assert server.ask(lambda environ: claim(environ).sock.getsockname()[1]) == server.port


@pytest.mark.parametrize("other", OTHERS)
def test_a_request_of_another_server_is_left_alone(other: str) -> None:
    environ = {"wsgi.input": Untouchable(), **OTHERS[other]}
    assert flask_ws_get_socket(environ) is None


def test_eventlets_own_primitives_come_with_the_socket(server: Server) -> None:
    assert server.ask(claim).concurrency is greenlets


def test_the_handler_stays_in_its_greenlet(server: Server) -> None:
    assert not server.ask(claim).detach


def test_what_the_server_has_read_past_the_head_is_taken(server: Server) -> None:
    taken = server.ask(lambda environ: claim(environ).take_read_ahead(), early=b"frames")
    assert taken == b"frames"


def test_taking_does_not_wait_for_a_client_that_sends_nothing(server: Server) -> None:
    assert server.ask(lambda environ: claim(environ).take_read_ahead()) == b""


def test_a_server_that_accepts_is_not_stopping(server: Server) -> None:
    assert not server.ask(lambda environ: claim(environ).is_stopping())


def test_a_server_that_was_interrupted_is_stopping(server: Server) -> None:
    def look(environ: dict[str, Any]) -> bool:
        is_stopping = claim(environ).is_stopping
        server.interrupt()
        return is_stopping()

    assert server.ask(look)


def test_all_connections_of_a_server_ask_an_equal_function(server: Server) -> None:
    """So that the monitor asks once for all of them."""
    first, second = (server.ask(lambda environ: claim(environ).is_stopping) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


def test_connections_of_two_servers_ask_two_functions(server: Server) -> None:
    other = Server()
    first, second = (
        each.ask(lambda environ: claim(environ).is_stopping) for each in (server, other)
    )
    other.interrupt()
    assert first != second


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
def test_all_connections_of_a_unix_socket_hear_that_the_server_stops(tmp_path: Path) -> None:
    """Their clients have one address, by which the server would find but the last of them."""

    with eventlet.Timeout(TIMEOUT):
        unix = Server(str(tmp_path / "socket"))

        def look(environ: dict[str, Any]) -> list[bool]:
            first = claim(environ).is_stopping

            def look_again(environ: dict[str, Any]) -> list[bool]:
                second = claim(environ).is_stopping
                unix.interrupt()
                return [first(), second()]

            answers: list[bool] = unix.ask(look_again)
            return answers

        try:
            assert unix.ask(look) == [True, True]
        finally:
            unix.interrupt()


def test_a_server_that_hides_its_state_may_cut_the_connection_off() -> None:
    """Rather than wait for it for ever when it stops."""
    idle: list[bool] = []

    class Body:
        rfile = io.BytesIO()

        def get_socket(self) -> None:
            return None

    claim({"eventlet.input": Body(), "eventlet.set_idle": lambda: idle.append(True)})
    assert idle == [True]


# The worker for gunicorn


def test_the_package_imports_neither_flask_nor_a_server() -> None:
    """The worker is found by way of it, and monkey-patches before the application is loaded."""
    code = (
        "import sys, flask_ws_eventlet;"
        "print([m for m in ('flask', 'gunicorn', 'eventlet') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_worker_is_a_name_of_the_package() -> None:
    assert flask_ws_eventlet.EventletWorker is EventletWorker


def test_the_package_has_no_names_that_it_has_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'EventletWorkers'"):
        getattr(flask_ws_eventlet, "EventletWorkers")  # noqa: B009


class Log:
    """What a worker logs."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, message: str, *arguments: object, **_: object) -> None:
        self.lines.append(message % arguments)

    debug = info = warning = error = exception = log

    def access(self, *_: object) -> None:
        pass


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def worker(log: Log) -> Iterator[Any]:
    worker = EventletWorker(1, os.getppid(), [], None, 30, Config(), log)
    yield worker
    worker.tmp.close()


@pytest.mark.parametrize("preload", [True, False])
def test_preloading_before_patching_is_warned_of(log: Log, preload: bool) -> None:
    config = Config()
    config.set("preload_app", preload)
    EventletWorker.check_config(config, log)
    assert bool(log.lines) is preload


def test_a_request_that_the_end_cuts_off_is_not_answered(worker: Any) -> None:
    client, server = eventlet.green.socket.socketpair()
    worker.handle_error(None, server, None, GreenletExit())
    server.close()
    assert client.recv(1) == b""
    client.close()


def test_a_request_that_fails_is_answered(worker: Any) -> None:
    client, server = eventlet.green.socket.socketpair()
    worker.handle_error(None, server, None, ValueError())
    server.close()
    assert client.recv(100).startswith(b"HTTP/1.1 500 ")
    client.close()


def test_a_second_signal_to_quit_does_nothing(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: list[object] = []
    monkeypatch.setattr(eventlet, "spawn", lambda *arguments: spawned.append(arguments))
    worker.handle_quit(2, None)
    worker.handle_quit(3, None)
    assert len(spawned) == 1


def test_what_eventlets_own_websocket_answered_is_not_answered_again(worker: Any) -> None:
    eventlet.wsgi.WSGI_LOCAL.already_handled = True
    try:
        with pytest.raises(StopIteration):
            worker.is_already_handled([])
    finally:
        eventlet.wsgi.WSGI_LOCAL.already_handled = False


def test_an_ordinary_response_is_not_handled_yet(worker: Any) -> None:
    assert worker.is_already_handled([]) is False


def test_a_worker_whose_arbiter_died_exits(worker: Any) -> None:
    worker.ppid = -1
    with pytest.raises(SystemExit):
        worker.notify()


# What a file of more than one block is sent as
CONTENT = bytes(range(256)) * 1000


@pytest.mark.parametrize(
    ("offset", "count", "sent"),
    [
        pytest.param(0, None, CONTENT, id="whole"),
        pytest.param(100_000, None, CONTENT[100_000:], id="rest"),
        pytest.param(1, 70_000, CONTENT[1:70_001], id="part"),
        pytest.param(1, 0, b"", id="nothing"),
        pytest.param(255_999, 10, CONTENT[-1:], id="more than there is"),
    ],
)
def test_a_file_is_sent(tmp_path: Path, offset: int, count: int | None, sent: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    client, server = eventlet.green.socket.socketpair()
    sender = WorkerSocket(server.fd)

    def send() -> int:
        with path.open("rb") as file:
            size = sender.sendfile(file, offset, count)
        sender.close()
        return size

    with eventlet.Timeout(TIMEOUT):
        sending = eventlet.spawn(send)
        received = b"".join(iter(lambda: client.recv(65536), b""))
        assert (received, sending.wait()) == (sent, len(sent))
    client.close()


class Worker:
    """A worker that serves in this thread, without a process of its own."""

    def __init__(self, log: Log, connections: int, **settings: Any) -> None:
        config = Config()
        config.set("worker_connections", connections)
        for name, value in settings.items():
            config.set(name, value)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self.worker = EventletWorker(1, os.getppid(), [listener], None, 30, config, log)
        self.worker.wsgi = self.serve
        self.began = eventlet.Event()
        self.held = eventlet.Event()
        self._running = eventlet.spawn(self.worker.run)

    def serve(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/held":
            self.began.send()
            self.held.wait()
        start_response("200 OK", [("Content-Length", "0")])
        return []

    def get(self, path: str) -> Any:
        """Make a request; its response is to be read."""
        client = eventlet.connect(self.address)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return client

    def await_refusal(self) -> None:
        """Wait until it accepts no more."""
        while True:
            try:
                eventlet.connect(self.address).close()
            except ConnectionError:
                return

    def stop(self) -> None:
        """Tell it to stop, and wait until it has."""
        self.worker.alive = False
        self._running.wait()


def read(client: Any) -> bytes:
    data = b"".join(iter(lambda: client.recv(4096), b""))
    client.close()
    return data


@pytest.fixture
def start(log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    monkeypatch.setattr("flask_ws_eventlet.worker.TICK", 0.01)
    monkeypatch.setattr("flask_ws_eventlet.worker.STOP_TICK", 0.01)
    with eventlet.Timeout(TIMEOUT):
        started: list[Worker] = []

        def start(connections: int = 10, **settings: Any) -> Worker:
            started.append(Worker(log, connections, **settings))
            return started[-1]

        yield start
        for worker in started:
            worker.stop()
            worker.worker.tmp.close()


def test_clients_past_worker_connections_wait(start: Callable[..., Worker]) -> None:
    worker = start(connections=1)
    first = worker.get("/held")
    second = worker.get("/")
    with eventlet.Timeout(0.2, False):
        assert not second.recv(1)
    worker.held.send()
    assert read(first).startswith(b"HTTP/1.1 200 ")
    assert read(second).startswith(b"HTTP/1.1 200 ")


def test_a_request_is_finished_before_the_worker_stops(start: Callable[..., Worker]) -> None:
    worker = start()
    client = worker.get("/held")
    worker.began.wait()
    worker.worker.alive = False
    worker.await_refusal()
    worker.held.send()
    assert read(client).startswith(b"HTTP/1.1 200 ")


def test_a_request_past_the_graceful_timeout_is_cut_off(
    start: Callable[..., Worker], log: Log
) -> None:
    worker = start(graceful_timeout=0)
    client = worker.get("/held")
    worker.began.wait()
    worker.stop()
    assert read(client) == b""


def test_a_stopped_worker_accepts_no_more(start: Callable[..., Worker]) -> None:
    worker = start()
    worker.stop()
    with pytest.raises(ConnectionRefusedError):
        worker.get("/")


def test_a_connection_without_a_request_does_not_delay_the_end(
    start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_ws_eventlet.worker.IDLE_TIMEOUT", 0.1)
    worker = start(keepalive=0)
    client = eventlet.connect(worker.address)
    while not worker.worker._idle:
        eventlet.sleep(0)
    worker.stop()
    assert read(client) == b""


def test_two_greenlets_may_wait_to_write_to_one_socket() -> None:
    """A message waits for a slow peer; and a pong that was to go before it does, too."""
    one, other = eventlet.green.socket.socketpair()
    with one, other, eventlet.Timeout(TIMEOUT):
        one.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                one.send(bytes(65536))
        one.settimeout(None)
        waiting = eventlet.spawn(greenlets.wait_writable, one.fileno(), TIMEOUT)
        sending = eventlet.spawn(one.send, b"hello")
        eventlet.sleep(0)
        while not (waiting.dead and sending.dead):
            other.recv(65536)
        assert waiting.wait()
        assert sending.wait() == 5
