from __future__ import annotations

import concurrent.futures
import functools
import io
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker
from tests.support.waiting import PATIENCE, until
from werkzeug.middleware.lint import InputStream

import flask_ws_gunicorn
from flask_ws import NoSocket, ServerSocket
from flask_ws_gunicorn import flask_ws_get_socket
from flask_ws_gunicorn.successor import OTHERS as OTHERS_SECONDS
from flask_ws_gunicorn.successor import OWN, Successor


class Untouchable:
    """An object of another server's, which no plugin but its own has any business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


OTHERS: dict[str, dict[str, Any]] = {
    "werkzeug": {"werkzeug.socket": Untouchable(), "SERVER_SOFTWARE": "Werkzeug/3.1"},
    "eventlet": {"eventlet.input": Untouchable(), "eventlet.set_idle": Untouchable()},
    "gevent": {"SERVER_SOFTWARE": "gevent/26.0 Python/3.11"},
    # Its worker on gevent's own server, which is that plugin's business.
    "gevent_pywsgi": {
        "SERVER_SOFTWARE": "gevent/26.0 gunicorn/27.0",
        "gunicorn.sock": Untouchable(),
    },
    "waitress": {"waitress.client_disconnected": Untouchable(), "SERVER_SOFTWARE": "waitress"},
    "unknown": {},
}


class GreenSocket:
    """Stands for a socket of gevent's or eventlet's: their modules are not `socket`."""


class OldUnreader:
    """Its buffer as gunicorn had it before 26.2."""

    def __init__(self, data: bytes) -> None:
        self.buf = io.BytesIO()
        self.buf.write(data)


class Worker:
    """As much of a worker as says whether it is to stop."""

    def __init__(self) -> None:
        self.alive = True
        self.cfg = SimpleNamespace(graceful_timeout=30, is_ssl=False)
        self.sockets: list[Any] = []
        self.tpool: object = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.alive = False


class Request:
    """A request as a worker passes it on, and the client's end of its connection."""

    def __init__(self) -> None:
        self.client, self.sock = socket.socketpair()
        self.unreader: Any = SocketUnreader(self.sock)

    def claim(self, **changes: Any) -> ServerSocket | None:
        reader = SimpleNamespace(unreader=self.unreader)
        environ = {
            "gunicorn.socket": self.sock,
            "wsgi.input": SimpleNamespace(reader=reader),
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        return flask_ws_get_socket({**environ, **changes})

    def take(self) -> bytes:
        server_socket = self.claim()
        assert server_socket is not None
        return server_socket.take_read_ahead()

    def close(self) -> None:
        self.sock.close()
        self.client.close()


@pytest.fixture
def request_() -> Iterator[Request]:
    request = Request()
    yield request
    request.close()


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    """In which no worker has been looked for."""
    kept = (flask_ws_gunicorn._find_is_stopping, flask_ws_gunicorn._look_at_patched)
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    before = signal.signal(signal.SIGTERM, worker.handle_exit)
    yield worker
    signal.signal(signal.SIGTERM, before)


def test_a_request_of_the_server_is_claimed_with_its_socket(request_: Request) -> None:
    server_socket = request_.claim()
    assert server_socket is not None
    assert server_socket.sock is request_.sock


@pytest.mark.parametrize("server", OTHERS)
def test_a_request_of_another_server_is_left_alone(server: str) -> None:
    environ = {"wsgi.input": Untouchable(), "SERVER_PROTOCOL": "HTTP/1.1", **OTHERS[server]}
    assert flask_ws_get_socket(environ) is None


def test_a_body_that_middleware_has_wrapped_is_looked_behind(request_: Request) -> None:
    """Around the app, and inside, where it does so later."""
    request_.unreader.unread(b"frames")
    body = SimpleNamespace(reader=SimpleNamespace(unreader=request_.unreader), read=None)
    environ = {
        "gunicorn.socket": request_.sock,
        "wsgi.input": InputStream(InputStream(body)),  # type: ignore[arg-type]
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    server_socket = flask_ws_get_socket(environ)
    assert server_socket is not None
    environ["wsgi.input"] = io.BytesIO()
    assert server_socket.take_read_ahead() == b"frames"


def test_a_body_that_cannot_be_looked_behind_is_told_so(request_: Request) -> None:
    with pytest.raises(NoSocket, match="put BytesIO in front of the server"):
        request_.claim(**{"wsgi.input": io.BytesIO()})


def test_the_threads_of_a_worker_are_there_before_ours(request_: Request, worker: Worker) -> None:
    """It starts them as requests come, and ends when the system has no more."""
    worker.cfg.threads = 5
    with concurrent.futures.ThreadPoolExecutor(5, thread_name_prefix="worker") as pool:
        worker.tpool = pool
        # By one of them.
        assert pool.submit(request_.claim).result(PATIENCE) is not None
        names = [thread.name for thread in threading.enumerate()]
        assert len([name for name in names if name.startswith("worker")]) == 5


def test_a_worker_without_all_of_its_threads_serves_on(
    request_: Request, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker.cfg.threads = 5
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        worker.tpool = pool
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fail)
            assert request_.claim() is not None
        assert pool.submit(lambda: "served").result(PATIENCE) == "served"


def test_a_stream_of_http2_is_not_claimed(request_: Request) -> None:
    """Its socket is that of all other streams as well."""
    assert request_.claim(SERVER_PROTOCOL="HTTP/2") is None


def test_what_the_server_has_read_past_the_head_is_taken(request_: Request) -> None:
    request_.unreader.unread(b"frames")
    assert request_.take() == b"frames"


def test_what_was_taken_is_not_in_the_servers_buffer_any_more(request_: Request) -> None:
    request_.unreader.unread(b"frames")
    request_.take()
    assert request_.take() == b""


def test_taking_does_not_wait_for_a_client_that_sends_nothing(request_: Request) -> None:
    request_.sock.settimeout(5)
    assert request_.take() == b""


def test_the_buffer_of_an_old_gunicorn_is_taken(request_: Request) -> None:
    request_.unreader = OldUnreader(b"frames")
    assert request_.take() == b"frames"


def test_the_buffer_of_an_old_gunicorn_is_empty_afterwards(request_: Request) -> None:
    request_.unreader = OldUnreader(b"frames")
    request_.take()
    assert request_.take() == b""


def test_a_worker_with_threads_gets_rid_of_the_handler(request_: Request) -> None:
    server_socket = request_.claim()
    assert server_socket is not None
    assert server_socket.detach


def test_a_worker_with_greenlets_keeps_the_handler(request_: Request) -> None:
    server_socket = request_.claim(**{"gunicorn.socket": GreenSocket()})
    assert server_socket is not None
    assert not server_socket.detach


def test_a_worker_that_is_alive_is_not_stopping(request_: Request, worker: Worker) -> None:
    server_socket = request_.claim()
    assert server_socket is not None
    assert not server_socket.is_stopping()


def test_a_worker_that_got_sigterm_is_stopping(request_: Request, worker: Worker) -> None:
    server_socket = request_.claim()
    assert server_socket is not None
    signal.raise_signal(signal.SIGTERM)
    assert server_socket.is_stopping()


@pytest.mark.parametrize("left", ["SIGQUIT", "SIGABRT", "SIGUSR1"])
def test_a_worker_is_found_by_whichever_signal_is_left_to_it(
    request_: Request, worker: Worker, left: str
) -> None:
    """An app, or what traces it, has put its own handler in the place of SIGTERM's."""
    number = getattr(signal, left)
    signal.signal(signal.SIGTERM, functools.partial(worker.handle_exit))
    before = signal.signal(number, worker.handle_exit)
    try:
        server_socket = request_.claim()
        assert server_socket is not None
        signal.raise_signal(signal.SIGTERM)
        assert server_socket.is_stopping()
    finally:
        signal.signal(number, before)


def test_all_connections_of_a_worker_ask_the_same_function(
    request_: Request, worker: Worker
) -> None:
    """So that the monitor asks once for all of them."""
    first, second = request_.claim(), request_.claim()
    assert first is not None
    assert second is not None
    assert first.is_stopping is second.is_stopping


def test_handlers_have_the_graceful_timeout_of_the_worker(
    request_: Request, worker: Worker
) -> None:
    server_socket = request_.claim()
    assert server_socket is not None
    assert server_socket.stop_timeout == 30


def test_without_a_worker_nothing_is_stopping(request_: Request) -> None:
    """As where an application has taken all signals for itself."""
    server_socket = request_.claim()
    assert server_socket is not None
    assert not server_socket.is_stopping()


@pytest.mark.parametrize("base", [SyncWorker, ThreadWorker])
def test_a_worker_without_greenlets_in_a_patched_process_is_said_once(
    request_: Request, caplog: pytest.LogCaptureFixture, base: type[Any]
) -> None:
    """gevent and eventlet put sockets of their own in the place of all."""
    kind = type("Named", (base,), {"__init__": Worker.__init__, "handle_exit": Worker.handle_exit})
    before = signal.signal(signal.SIGTERM, kind().handle_exit)
    try:
        for _ in range(2):
            request_.claim(**{"gunicorn.socket": GreenSocket()})
    finally:
        signal.signal(signal.SIGTERM, before)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "monkey-patched" in record.message
    assert "Named" in record.message
    assert "--worker-class gevent" in record.message


def test_patched_threads_suffice_for_the_warning(
    request_: Request, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Named", (SyncWorker,), {"__init__": Worker.__init__})
    monkeypatch.setattr("_thread.start_new_thread", lambda *_: None)
    before = signal.signal(signal.SIGTERM, kind().handle_exit)
    try:
        request_.claim()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(caplog.records) == 1


def test_nothing_is_said_of_a_process_that_is_not_patched(
    request_: Request, caplog: pytest.LogCaptureFixture
) -> None:
    kind = type("Named", (SyncWorker,), {"__init__": Worker.__init__})
    before = signal.signal(signal.SIGTERM, kind().handle_exit)
    try:
        request_.claim()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caplog.records == []


def test_nothing_is_said_of_a_worker_with_greenlets(
    request_: Request, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    request_.claim(**{"gunicorn.socket": GreenSocket()})
    assert caplog.records == []


def test_the_tornado_worker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gunicorn.workers.gtornado", object())
    with pytest.raises(NoSocket, match="tornado worker"):
        flask_ws_get_socket({"SERVER_PROTOCOL": "HTTP/1.1"})


# Who answers in the place of a worker that stops


class Listening(Worker):
    """A worker with a listening socket, and requests that it has had."""

    def __init__(self, family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0)) -> None:
        super().__init__()
        self.sockets = [socket.socket(family)]
        self.sockets[0].bind(address)
        self.sockets[0].listen()
        self.nr, self.max_requests = 1, sys.maxsize


class Clock:
    """A monotonic clock that tests set."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("flask_ws_gunicorn.successor.time", clock)
    return clock


@pytest.fixture(params=["tcp", "unix"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listening]:
    if request.param == "tcp":
        worker = Listening()
    else:
        worker = Listening(socket.AF_UNIX, str(tmp_path / "socket"))
    yield worker
    worker.sockets[0].close()


def ask(successor: Successor, clock: Clock) -> bool | None:
    """Ask again and again, for half a second; what is said in the end."""
    for _ in range(5):
        clock.now += 0.1
        answer = successor()
    return answer


def test_a_successor_is_whoever_accepts_connections(listening: Listening, clock: Clock) -> None:
    successor = Successor(listening)
    assert successor() is None
    clock.now += OWN
    assert ask(successor, clock) is None
    client, _ = listening.sockets[0].accept()
    # A server reads no request, and closes.
    assert client.recv(1) == b""
    client.close()
    until(lambda: successor() is True)
    assert successor() is True


def test_a_worker_is_no_successor_of_its_own(listening: Listening, clock: Clock) -> None:
    """One with greenlets accepts connections for a second more."""
    successor = Successor(listening)
    assert successor() is None
    assert ask(successor, clock) is None
    listening.sockets[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.sockets[0].accept()


def test_a_server_that_ends_has_none_to_wait_for(listening: Listening, clock: Clock) -> None:
    successor = Successor(listening)
    listening.sockets[0].close()
    successor()
    clock.now += OWN
    assert ask(successor, clock) is True


def test_a_recycled_worker_is_replaced_when_it_has_ended(
    listening: Listening, clock: Clock
) -> None:
    """If it is the only one: others would have accepted by then."""
    listening.max_requests = listening.nr
    successor = Successor(listening)
    successor()
    clock.now += OWN
    assert ask(successor, clock) is None
    clock.now += OTHERS_SECONDS
    assert ask(successor, clock) is False


def test_a_worker_has_one_for_all_its_connections(request_: Request) -> None:
    listening = Listening()
    before = signal.signal(signal.SIGTERM, listening.handle_exit)
    try:
        first, second = request_.claim(), request_.claim()
        assert first is not None
        assert second is not None
        assert isinstance(first.has_successor, Successor)
        assert first.has_successor is second.has_successor
    finally:
        signal.signal(signal.SIGTERM, before)
        listening.sockets[0].close()
