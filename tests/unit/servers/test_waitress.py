from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.memory import in_thread
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher

from flask_ws import NoSocket, ServerSocket
from flask_ws_waitress import flask_ws_get_socket

HEAD = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: Masked, as all frames of clients are.
FRAME = b"\x81\x83\x00\x00\x00\x00abc"


class Untouchable:
    """An object of another server's, which no plugin but its own has any business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


OTHERS: dict[str, dict[str, Any]] = {
    "werkzeug": {"werkzeug.socket": Untouchable(), "SERVER_SOFTWARE": "Werkzeug/3.1"},
    "gunicorn": {"gunicorn.socket": Untouchable()},
    "eventlet": {"eventlet.input": Untouchable(), "eventlet.set_idle": Untouchable()},
    "gevent": {"SERVER_SOFTWARE": "gevent/26.0 Python/3.11"},
    "uwsgi": {"uwsgi.version": b"2.0.30"},
    # As an app behind another server may call itself.
    "unknown": {"SERVER_SOFTWARE": "waitress"},
}


class Server:
    """As much of Waitress's server as its channels need: no loop, and no threads."""

    def __init__(self) -> None:
        self.task_dispatcher = ThreadedTaskDispatcher()
        self.active_channels: dict[int, HTTPChannel] = {}
        self.triggered = threading.Event()

    def add_task(self, channel: HTTPChannel) -> None: ...

    @property
    def trigger(self) -> Server:
        return self

    def pull_trigger(self, thunk: Callable[[], object] | None = None) -> None:
        if thunk is not None:
            thunk()
        self.triggered.set()


class Request:
    """A request in Waitress's own channel, and the client's end of its connection."""

    def __init__(self, **adjustments: Any) -> None:
        self.client, sock = socket.socketpair()
        self.server = Server()
        self.channel = HTTPChannel(self.server, sock, "", Adjustments(**adjustments), map={})
        self.environ = {"waitress.client_disconnected": self.channel.check_client_disconnected}

    def receive(self, data: bytes) -> None:
        """Parse it, as the loop does."""
        self.channel.received(data)

    def claim(self) -> ServerSocket:
        server_socket = flask_ws_get_socket(self.environ)
        assert server_socket is not None
        return server_socket

    def take(self) -> bytes:
        return self.claim().take_read_ahead()

    def close(self) -> None:
        self.channel.handle_close()
        self.client.close()


@pytest.fixture
def request_() -> Iterator[Request]:
    request = Request()
    yield request
    request.close()


@pytest.fixture
def looking_ahead() -> Iterator[Request]:
    request = Request(channel_request_lookahead=5)
    yield request
    request.close()


def test_a_request_of_the_server_is_claimed_with_its_socket(request_: Request) -> None:
    assert request_.claim().sock is request_.channel.socket


@pytest.mark.parametrize("server", OTHERS)
def test_a_request_of_another_server_is_left_alone(server: str) -> None:
    assert flask_ws_get_socket({"wsgi.input": Untouchable(), **OTHERS[server]}) is None


def test_the_handler_leaves_the_servers_few_threads(request_: Request) -> None:
    assert request_.claim().detach


def test_the_loop_learns_a_new_number_of_the_socket(request_: Request) -> None:
    """As Windows gives it; at the old one the connection is another's."""
    channel, connection = request_.channel, request_.claim()
    old, (dead, far) = channel.socket.fileno(), socket.socketpair()
    channel.socket, kept = dead, channel.socket
    assert connection.on_new_fileno is not None
    connection.on_new_fileno()

    try:
        numbers = [number for number, found in channel._map.items() if found is channel]
        assert numbers == [dead.fileno()] != [old]
        assert channel.server.active_channels == {dead.fileno(): channel}
    finally:
        kept.close()
        far.close()


def number_socket(request: Request, number: int) -> None:
    """Move the server's end of the connection to a descriptor of this number."""
    # Windows has none.
    import fcntl

    old = request.channel.socket
    fd = fcntl.fcntl(old.fileno(), fcntl.F_DUPFD_CLOEXEC, number)
    request.channel.socket = socket.socket(fileno=fd)
    old.close()


@pytest.mark.unix
def test_a_descriptor_that_leaves_select_no_room_is_refused_in_words(request_: Request) -> None:
    """The 100 of its connection_limit would come after it, and end Waitress's loop."""
    number_socket(request_, 900)
    with pytest.raises(NoSocket, match="--asyncore-use-poll"):
        request_.claim()


@pytest.mark.unix
def test_with_poll_any_descriptor_is_claimed() -> None:
    request = Request(asyncore_use_poll=True)
    number_socket(request, 900)
    request.claim()
    request.close()


def test_what_the_server_has_read_past_the_head_is_taken(request_: Request) -> None:
    request_.receive(HEAD + FRAME)
    assert request_.take() == FRAME


def test_what_was_read_in_pieces_is_taken_whole(request_: Request) -> None:
    for data in (HEAD[:10], HEAD[10:] + FRAME[:3], FRAME[3:]):
        request_.receive(data)
    assert request_.take() == FRAME


def test_what_was_taken_is_not_in_the_servers_buffer_any_more(request_: Request) -> None:
    request_.receive(HEAD + FRAME)
    request_.take()
    assert request_.channel.request is None


def test_nothing_is_taken_where_the_client_has_sent_nothing(request_: Request) -> None:
    request_.receive(HEAD)
    assert request_.take() == b""


@pytest.mark.parametrize("early", [HEAD, b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"])
def test_an_http_request_in_place_of_frames_does_not_run(request_: Request, early: bytes) -> None:
    """A proxy in front took it for a part of the WebSocket, and did not look at it."""
    request_.receive(HEAD + early)
    with pytest.raises(RuntimeError, match="took the first frames for a request"):
        request_.take()
    assert len(request_.channel.requests) == 1
    assert request_.channel.request is None


def test_after_an_http_request_in_place_of_frames_the_connection_ends(request_: Request) -> None:
    request_.receive(HEAD + HEAD)
    with pytest.raises(RuntimeError):
        request_.take()
    assert request_.channel.requests[0].headers["CONNECTION"] == "close"


def test_requests_behind_one_that_is_refused_stay(request_: Request) -> None:
    request_.receive(HEAD + HEAD)
    request_.claim()
    assert len(request_.channel.requests) == 2


def test_the_loop_does_not_read_on_once_the_connection_is_taken(looking_ahead: Request) -> None:
    """It reads ahead, and would take the client's frames for requests."""
    looking_ahead.receive(HEAD + FRAME)
    assert looking_ahead.channel.readable()
    taking = in_thread(looking_ahead.take)
    assert looking_ahead.server.triggered.wait(5)
    # The loop comes round.
    assert not looking_ahead.channel.readable()
    assert taking.result(5) == FRAME
    assert not looking_ahead.channel.readable()


def test_the_rest_of_the_response_before_goes_out_first(request_: Request) -> None:
    request_.receive(HEAD)
    # Less than Waitress sends at once, so that it is left for the loop.
    request_.channel.adj.send_bytes = 100
    request_.channel.write_soon(b"the response before")
    assert request_.take() == b""
    assert request_.client.recv(100) == b"the response before"


def test_a_response_before_to_a_client_that_is_slow_is_waited_for(request_: Request) -> None:
    size = 4_000_000
    request_.channel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    request_.channel.adj.send_bytes = size + 1
    request_.receive(HEAD)
    request_.channel.write_soon(bytes(size))
    taking = in_thread(request_.take)
    received = 0
    while received < size:
        received += len(request_.client.recv(65536))
    assert taking.result(5) == b""


def test_a_client_that_is_gone_is_not_waited_for(request_: Request) -> None:
    request_.receive(HEAD)
    request_.channel.adj.send_bytes = 10_000_000
    request_.channel.write_soon(bytes(9_000_000))
    taking = in_thread(request_.take)
    request_.client.close()
    assert taking.result(5) == b""


def test_a_server_that_runs_is_not_stopping(request_: Request) -> None:
    request_.server.task_dispatcher.threads.add(0)
    assert not request_.claim().is_stopping()


@pytest.mark.parametrize("waiting", [1, 0])
def test_a_server_whose_threads_end_is_stopping(request_: Request, waiting: int) -> None:
    """The first of them, and the last."""
    dispatcher = request_.server.task_dispatcher
    dispatcher.threads = {0} if waiting else set()
    dispatcher.stop_count = waiting
    assert request_.claim().is_stopping()


def test_all_connections_of_a_server_ask_an_equal_function(request_: Request) -> None:
    """So that the monitor asks once for all of them."""
    assert request_.claim().is_stopping == request_.claim().is_stopping
