from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import flask_ws_uwsgi
from flask_ws import NoSocket, ServerSocket
from flask_ws_uwsgi import flask_ws_get_socket


class Untouchable:
    """An object of another server's, which no plugin but its own has any business with."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"{name} was looked up")


OTHERS: dict[str, dict[str, Any]] = {
    "werkzeug": {"werkzeug.socket": Untouchable(), "SERVER_SOFTWARE": "Werkzeug/3.1"},
    "gunicorn": {"gunicorn.socket": Untouchable()},
    "eventlet": {"eventlet.input": Untouchable(), "eventlet.set_idle": Untouchable()},
    "gevent": {"SERVER_SOFTWARE": "gevent/26.0 Python/3.11"},
    "waitress": {"waitress.client_disconnected": Untouchable(), "SERVER_SOFTWARE": "waitress"},
    "unknown": {},
}

#: Where uWSGI's record of a request would be.
ADDRESSES = {"threaded_current_wsgi_req": 1000, "simple_current_wsgi_req": 2000}


class Library:
    """uWSGI's functions in C: of what it has read past the head, as much as fits is given."""

    def __init__(self) -> None:
        self.read_past = b""
        #: The request that was asked for.
        self.asked: int | None = None
        #: The function then goes on to the socket, if that would not wait.
        self.fd = -1
        self.missing: set[str] = set()

    def __getitem__(self, name: str) -> Callable[..., int]:
        if name in self.missing:
            raise AttributeError(name)

        def current() -> int:
            return ADDRESSES[name]

        def read(request: int, buffer: Any, size: int) -> int:
            self.asked = request
            data, self.read_past = self.read_past[:size], self.read_past[size:]
            if not data:
                assert not os.get_blocking(self.fd), "it would wait for the client"
                try:
                    data = os.read(self.fd, size)
                except BlockingIOError:
                    return -1
            ctypes.memmove(buffer, data, len(data))
            return len(data)

        return read if name == "uwsgi_proto_base_read_body" else current


class Request:
    """A request inside uWSGI, and the client's end of its connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client, self.sock = socket.socketpair()
        self.library = Library()
        self.library.fd = self.sock.fileno()
        #: The module that is there inside uWSGI alone.
        self.uwsgi = SimpleNamespace(
            loop=None, opt={}, has_threads=1, connection_fd=self.sock.fileno
        )
        self.environ: dict[str, Any] = {
            "uwsgi.version": b"2.0.30",
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
        }
        monkeypatch.setitem(sys.modules, "uwsgi", self.uwsgi)
        monkeypatch.setattr(flask_ws_uwsgi, "load_library", lambda: self.library)

    def claim(self, **changes: Any) -> ServerSocket:
        server_socket = flask_ws_get_socket({**self.environ, **changes})
        assert server_socket is not None
        return server_socket

    def refuse(self, **changes: Any) -> str:
        with pytest.raises(NoSocket) as caught:
            self.claim(**changes)
        return str(caught.value)

    def close(self) -> None:
        self.sock.close()
        self.client.close()


@pytest.fixture
def request_(monkeypatch: pytest.MonkeyPatch) -> Iterator[Request]:
    request = Request(monkeypatch)
    yield request
    request.close()


def test_a_request_of_the_server_is_claimed_with_its_descriptor(request_: Request) -> None:
    assert request_.claim().sock.fileno() == request_.sock.fileno()


def test_the_descriptor_stays_the_servers(request_: Request) -> None:
    request_.claim().sock.close()
    request_.client.sendall(b"still there")
    assert request_.sock.recv(100) == b"still there"


@pytest.mark.parametrize("server", OTHERS)
def test_a_request_of_another_server_is_left_alone(server: str) -> None:
    """Where there is no module of uWSGI's to import."""
    assert flask_ws_get_socket({"wsgi.input": Untouchable(), **OTHERS[server]}) is None


def test_the_handler_leaves_the_servers_few_threads(request_: Request) -> None:
    assert request_.claim().detach


def test_what_the_server_has_read_past_the_head_is_taken(request_: Request) -> None:
    request_.library.read_past = b"frames"
    assert request_.claim().take_read_ahead() == b"frames"


def test_what_the_socket_has_got_since_is_taken_too(request_: Request) -> None:
    request_.library.read_past = b"frames, "
    request_.client.sendall(b"and more")
    assert request_.claim().take_read_ahead() == b"frames, and more"


def test_more_than_is_read_at_once_is_taken_whole(request_: Request) -> None:
    request_.library.read_past = bytes(100_000)
    assert request_.claim().take_read_ahead() == bytes(100_000)


@pytest.mark.parametrize("blocking", [True, False])
def test_the_blocking_mode_of_the_socket_is_as_before(request_: Request, blocking: bool) -> None:
    request_.sock.setblocking(blocking)
    request_.claim().take_read_ahead()
    assert os.get_blocking(request_.sock.fileno()) is blocking


@pytest.mark.parametrize(("threaded", "address"), [(True, 1000), (False, 2000)])
def test_the_request_is_that_of_the_thread_or_of_the_process(
    request_: Request, threaded: bool, address: int
) -> None:
    server_socket = request_.claim(**{"wsgi.multithread": threaded})
    server_socket.take_read_ahead()
    assert request_.library.asked == address


@pytest.mark.parametrize("name", [*ADDRESSES, "uwsgi_proto_base_read_body"])
def test_a_build_that_does_not_export_its_functions_serves_all_the_same(
    request_: Request, name: str
) -> None:
    request_.library.missing.add(name)
    threaded = name == "threaded_current_wsgi_req"
    assert request_.claim(**{"wsgi.multithread": threaded}).take_read_ahead() == b""


@pytest.mark.parametrize("changes", [{"loop": "gevent"}, {"opt": {"async": b"5"}}])
def test_a_loop_that_keeps_its_connections_is_refused_in_words(
    request_: Request, changes: dict[str, Any]
) -> None:
    vars(request_.uwsgi).update(changes)
    assert "without --gevent or --async" in request_.refuse()


def test_a_process_without_threads_is_refused_in_words(request_: Request) -> None:
    request_.uwsgi.has_threads = 0
    assert "--enable-threads" in request_.refuse()


def test_a_socket_of_uwsgis_own_tls_is_refused_in_words(request_: Request) -> None:
    request_.uwsgi.opt = {"https-socket": b":8443,cert.pem,key.pem"}
    assert "--https" in request_.refuse(**{"wsgi.url_scheme": "https"})


def test_plain_http_beside_uwsgis_own_tls_is_claimed(request_: Request) -> None:
    request_.uwsgi.opt = {"https-socket": b":8443,cert.pem,key.pem"}
    request_.claim()


def test_without_the_program_there_are_no_functions_and_no_error() -> None:
    """In this Python, which is not uWSGI."""
    flask_ws_uwsgi.load_library.cache_clear()
    assert flask_ws_uwsgi.find_request(threaded=True) is None
    assert flask_ws_uwsgi.take_read_ahead(1000, -1) == b""
