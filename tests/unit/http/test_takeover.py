from __future__ import annotations

import errno
import gc
import os
import socket
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.support.memory import tcp_pair
from tests.support.raw import Peer
from tests.unit.conftest import TLS, tls_pair

from flask_ws.http import takeover
from flask_ws.http.takeover import Takeover

FDS = Path("/proc/self/fd")


def open_sockets() -> Counter[str]:
    """The sockets that are open, each as often as it has descriptors."""
    found: Counter[str] = Counter()
    for fd in FDS.iterdir():
        # The one of this very directory is gone already.
        with suppress(OSError):
            found[os.readlink(fd)] += 1
    return Counter({name: count for name, count in found.items() if name.startswith("socket:")})


class Connection:
    """A client, and a server that knows nothing of what is done to its socket."""

    def __init__(self, client: socket.socket, sock: socket.socket) -> None:
        self.peer = Peer(client)
        self.sock = sock
        self.takeover = Takeover(sock)

    def serve_on(self) -> None:
        """Do what servers do after a response: write it, look for more, and close."""
        self.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        assert self.sock.recv(100) == b""
        self.sock.shutdown(socket.SHUT_WR)
        self.takeover.drain()
        self.sock.close()


Connect = Callable[[], Connection]


@pytest.fixture(params=["plain", "TLS"])
def connect(request: pytest.FixtureRequest, tls: TLS) -> Iterator[Connect]:
    made: list[Connection] = []

    def connect() -> Connection:
        made.append(Connection(*(tls_pair(tls) if request.param == "TLS" else tcp_pair())))
        return made[-1]

    yield connect
    for connection in made:
        connection.peer.sock.close()
        connection.takeover.close()
        connection.takeover.drain()
        connection.sock.close()


def say(connection: Connection, data: bytes) -> None:
    """Send on the connection that was taken."""
    if connection.takeover.sslobj is None:
        connection.takeover.sock.sendall(data)
    else:
        connection.takeover.sslobj.write(data)


def hear(connection: Connection, size: int) -> bytes:
    if connection.takeover.sslobj is None:
        return connection.takeover.sock.recv(size)
    heard: bytes = connection.takeover.sslobj.read(size)
    return heard


# Closing


def test_a_close_is_seen_by_the_peer_as_a_clean_end(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()

    connection.peer.expect_end()


def test_what_was_sent_before_a_close_arrives(connect: Connect) -> None:
    connection = connect()
    say(connection, b"the last word")
    connection.takeover.close()

    assert connection.peer.take(13) == b"the last word"
    connection.peer.expect_end()


def test_after_a_close_the_server_sees_the_end_of_the_stream(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()

    assert connection.sock.recv(100) == b""


def test_after_a_close_the_server_may_write(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()

    connection.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


def test_after_a_close_nothing_of_the_server_reaches_the_peer(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()
    connection.serve_on()

    connection.peer.expect_end()


def test_after_a_close_the_server_ends_its_request_without_an_error(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()

    connection.serve_on()


def test_after_a_close_the_server_still_has_a_socket(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()

    assert connection.sock.fileno() >= 0


def test_a_drained_server_sees_no_reset_when_it_closes_late(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()
    connection.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    connection.takeover.drain()

    assert connection.sock.recv(100) == b""


def test_closing_twice_does_nothing_more(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()
    number = connection.sock.fileno()
    connection.takeover.close()

    assert connection.sock.fileno() == number
    connection.serve_on()


def test_draining_twice_does_nothing_more(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()
    connection.takeover.drain()
    connection.takeover.drain()


def test_a_connection_that_was_not_taken_has_nothing_to_drain(connect: Connect) -> None:
    connect().takeover.drain()


def test_a_server_may_write_after_the_end_of_its_response(
    connect: Connect,
) -> None:
    """As some do behind generator middleware."""
    connection, other = connect(), connect()
    for one in (connection, other):
        one.takeover.close()
        one.takeover.finish()
    for _ in range(3):
        connection.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    # Which is let go when another connection ends.
    assert takeover._unwritten
    connection.sock.close()
    other.sock.close()
    other.takeover.finish()
    assert not takeover._unwritten


def test_what_a_server_has_written_before_the_end_is_swallowed_at_once(connect: Connect) -> None:
    connection = connect()
    connection.takeover.close()
    connection.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    connection.takeover.finish()

    assert not takeover._unwritten
    assert connection.sock.recv(100) == b""


# Detaching


def test_a_detached_connection_lives_on_when_the_server_is_done(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.serve_on()
    say(connection, b"still here")

    assert connection.peer.take(10) == b"still here"


def test_a_detached_connection_hears_the_peer(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.serve_on()
    connection.peer.send_bytes(b"hello?")

    assert hear(connection, 100) == b"hello?"


def test_what_the_peer_sends_does_not_reach_the_server(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.peer.send_bytes(b"hello?")

    assert connection.sock.recv(100) == b""
    assert hear(connection, 100) == b"hello?"


def test_what_the_server_writes_does_not_reach_the_peer(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.serve_on()
    say(connection, b"mine")

    assert connection.peer.take(4) == b"mine"


def test_a_detached_connection_ends_cleanly(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.serve_on()
    connection.takeover.close()

    connection.peer.expect_end()


def test_a_detached_connection_may_end_before_the_server_is_done(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.takeover.close()
    connection.serve_on()

    connection.peer.expect_end()


def test_the_server_closes_its_own_socket_not_ours(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()
    connection.sock.close()
    connection.takeover.drain()
    say(connection, b"still here")

    assert connection.peer.take(10) == b"still here"


@pytest.mark.unix
@pytest.mark.parametrize("default", [None, 5.0])
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_the_server_finds_its_socket_as_blocking_as_it_was(
    connect: Connect, timeout: float | None, default: float | None
) -> None:
    connection = connect()
    connection.sock.settimeout(timeout)
    before = os.get_blocking(connection.sock.fileno())
    socket.setdefaulttimeout(default)
    try:
        connection.takeover.take()
    finally:
        socket.setdefaulttimeout(None)

    assert os.get_blocking(connection.sock.fileno()) is before


def test_the_servers_descriptor_is_not_inherited(connect: Connect) -> None:
    connection = connect()
    connection.takeover.take()

    assert not os.get_inheritable(connection.sock.fileno())


# Descriptors


@contextmanager
def few_descriptors(number: int) -> Iterator[None]:
    """The process gets so many more descriptors."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # New ones take the lowest numbers that are free.
    taken = [os.dup(0) for _ in range(number + 1)]
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1], limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture
def no_descriptors(connect: Connect) -> Iterator[Connection]:
    """A connection in a process that gets no more descriptors."""
    connection = connect()
    with few_descriptors(0):
        yield connection


def test_the_end_needs_no_descriptor(no_descriptors: Connection) -> None:
    no_descriptors.takeover.close()

    no_descriptors.peer.expect_end()


def test_what_was_sent_before_the_end_needs_no_descriptor(no_descriptors: Connection) -> None:
    say(no_descriptors, b"the last word")
    no_descriptors.takeover.close()

    assert no_descriptors.peer.take(13) == b"the last word"
    no_descriptors.peer.expect_end()


def test_without_descriptors_the_server_reads_nothing_of_the_peer(
    no_descriptors: Connection,
) -> None:
    """What it would take for the next request."""
    no_descriptors.peer.send_bytes(b"GET /admin HTTP/1.1\r\n\r\n")
    no_descriptors.takeover.close()

    with suppress(OSError):
        assert no_descriptors.sock.recv(100) == b""
    with suppress(OSError):
        assert no_descriptors.sock.recv(100) == b""


def test_without_descriptors_nothing_of_the_server_reaches_the_peer(
    no_descriptors: Connection,
) -> None:
    no_descriptors.takeover.close()
    with suppress(OSError):
        no_descriptors.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    no_descriptors.sock.close()

    no_descriptors.peer.expect_end()


def test_to_detach_without_descriptors_changes_nothing(no_descriptors: Connection) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        no_descriptors.takeover.take()

    say(no_descriptors, b"still here")
    assert no_descriptors.peer.take(10) == b"still here"
    assert no_descriptors.takeover.sock is no_descriptors.sock


@pytest.mark.unix
@pytest.mark.skipif(not FDS.exists(), reason="the system does not list open descriptors")
@pytest.mark.parametrize("free", [1, 2])
def test_a_detaching_that_fails_leaks_no_descriptor(free: int) -> None:
    before = open_sockets()
    client, server = tcp_pair()
    takeover = Takeover(server)
    with client, server, few_descriptors(free), suppress(OSError):
        takeover.take()

    assert not open_sockets() - before


@pytest.mark.skipif(not FDS.exists(), reason="the system does not list open descriptors")
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("server_first", [False, True])
def test_no_descriptor_leaks(connect: Connect, detach: bool, server_first: bool) -> None:
    def one() -> None:
        connection = connect()
        if detach:
            connection.takeover.take()
        if detach and server_first:
            connection.serve_on()
            connection.takeover.close()
        else:
            connection.takeover.close()
            connection.serve_on()
        connection.peer.sock.close()

    one()
    before = open_sockets()
    for _ in range(10):
        one()

    assert not open_sockets() - before


@pytest.mark.skipif(not FDS.exists(), reason="the system does not list open descriptors")
def test_a_server_that_does_not_come_back_to_drain_leaks_nothing() -> None:
    before = open_sockets()
    client, server = socket.socketpair()
    with warnings.catch_warnings(), client, server:
        warnings.simplefilter("ignore", ResourceWarning)
        takeover = Takeover(server)
        takeover.close()
        del takeover
        gc.collect()

    assert not open_sockets() - before


@pytest.mark.skipif(not FDS.exists(), reason="the system does not list open descriptors")
def test_a_live_connection_in_the_servers_worker_costs_no_descriptor(connect: Connect) -> None:
    before = open_sockets()
    connection = connect()

    assert (open_sockets() - before).total() == 2
    connection.takeover.close()


def test_a_connection_in_the_servers_worker_is_on_the_servers_socket(connect: Connect) -> None:
    connection = connect()

    assert connection.takeover.sock is connection.sock


def test_plain_sockets_have_no_tls_object() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert Takeover(one).sslobj is None
