from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator

import pytest

from flask_ws import take_buffered


class Request:
    """A server's socket, its reader, and the client."""

    def __init__(self) -> None:
        self.client, self.sock = socket.socketpair()
        self.reader: io.BufferedReader = self.sock.makefile("rb")

    def receive(self, data: bytes) -> None:
        self.client.sendall(data)

    def take(self) -> bytes:
        return take_buffered(self.reader, self.sock)

    def close(self) -> None:
        self.reader.close()
        self.sock.close()
        self.client.close()


@pytest.fixture
def request_() -> Iterator[Request]:
    request = Request()
    yield request
    request.close()


def test_what_the_reader_holds_is_taken(request_: Request) -> None:
    request_.receive(b"head\nframes")
    assert request_.reader.readline() == b"head\n"

    assert request_.take() == b"frames"


def test_what_was_taken_is_not_in_the_reader_any_more(request_: Request) -> None:
    request_.receive(b"head\nframes")
    request_.reader.readline()
    request_.take()
    request_.receive(b"more")

    assert request_.reader.read1(100) == b"more"


def test_what_the_socket_has_is_taken_when_the_reader_is_empty(request_: Request) -> None:
    request_.receive(b"frames")

    assert request_.take() == b"frames"


def test_nothing_is_taken_without_waiting_when_there_is_nothing(request_: Request) -> None:
    assert request_.take() == b""


def test_nothing_is_taken_at_the_end_of_the_stream(request_: Request) -> None:
    request_.client.shutdown(socket.SHUT_WR)

    assert request_.take() == b""


@pytest.mark.parametrize("error", [ConnectionResetError, ssl.SSLEOFError, ssl.SSLError])
def test_a_lost_connection_is_no_error_yet(request_: Request, error: type[OSError]) -> None:
    """The handshake goes on, and finds it; it would be a 500 that the operator has to read."""

    class Lost:
        def peek(self, size: int) -> bytes:
            raise error

    assert take_buffered(Lost(), request_.sock) == b""  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, 0.0, 5.0])
def test_the_timeout_of_the_socket_is_as_before(request_: Request, timeout: float | None) -> None:
    request_.sock.settimeout(timeout)
    request_.take()

    assert request_.sock.gettimeout() == timeout


def test_a_socket_that_the_reader_does_not_read_is_refused_in_words(request_: Request) -> None:
    """Its own would be waited for, as it is still blocking."""
    with request_.sock.dup() as duplicate, pytest.raises(ValueError, match="not a duplicate"):
        take_buffered(request_.reader, duplicate)


def test_a_reader_that_names_no_descriptor_is_emptied(request_: Request) -> None:
    class Reader(io.BytesIO):
        def peek(self, size: int) -> bytes:
            return self.getvalue()

    reader = Reader(b"frames")
    assert take_buffered(reader, request_.sock) == b"frames"  # type: ignore[arg-type]


def test_the_timeout_of_the_socket_is_as_before_after_an_error(request_: Request) -> None:
    class Broken:
        def peek(self, size: int) -> bytes:
            raise OSError

    request_.sock.settimeout(5)
    with pytest.raises(OSError):  # noqa: PT011
        take_buffered(Broken(), request_.sock)  # type: ignore[arg-type]

    assert request_.sock.gettimeout() == 5
