from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.memory import in_thread, is_waiting, tcp_pair
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import TLS, tls_pair

from flask_ws.concurrency import threads
from flask_ws.connection import transport as transport_module
from flask_ws.connection.tls import TLSTransport
from flask_ws.connection.transport import SEND_SIZE, PlainTransport, Transport
from flask_ws.system import LINUX

MUCH = bytes(range(256)) * 20_000

Pair = tuple[socket.socket, Transport]


@pytest.fixture(params=["plain", "TLS"])
def pair(request: pytest.FixtureRequest, tls: TLS) -> Iterator[Pair]:
    """A client's socket, and a server's transport."""
    make: type[Transport]
    if request.param == "TLS":
        (client, server), make = tls_pair(tls), TLSTransport
    else:
        (client, server), make = tcp_pair(), PlainTransport
    client.settimeout(PATIENCE)
    transport = make(server, threads, server.close)
    yield client, transport
    client.close()
    transport.close()


def take(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = client.recv(65536)
        assert chunk
        data += chunk
    return bytes(data)


def leave(pair: Pair) -> None:
    """Close the client's socket, with nothing unread: TLS sends tickets, which would reset it."""
    client, transport = pair
    transport.send([b"x"])
    take(client, 1)
    client.close()


def wait(transport: Transport) -> None:
    assert threads.wait_readable(transport.fd, PATIENCE)


# Receiving


def test_what_comes_is_received(pair: Pair) -> None:
    client, transport = pair
    client.sendall(b"hello")

    assert transport.recv() == b"hello"


def test_what_comes_in_time_is_received(pair: Pair) -> None:
    client, transport = pair
    client.sendall(b"hello")

    assert transport.recv(PATIENCE) == b"hello"


def test_what_does_not_come_in_time_is_a_timeout(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[1].recv(0.01)


def test_a_timeout_of_ours_has_no_error_number(pair: Pair) -> None:
    """The operating system's own, after keepalive probes for one, has."""
    with pytest.raises(TimeoutError) as caught:
        pair[1].recv(0)

    assert caught.value.errno is None


def test_a_thread_waits_for_what_comes(pair: Pair) -> None:
    client, transport = pair
    receiving = in_thread(transport.recv)
    client.sendall(b"hello")

    assert receiving.result(PATIENCE) == b"hello"


def test_the_end_of_the_stream_is_empty(pair: Pair) -> None:
    leave(pair)

    assert pair[1].recv() == b""


def test_what_comes_may_be_received_into_place(pair: Pair) -> None:
    client, transport = pair
    buffer = bytearray(3)
    client.sendall(b"hello")

    assert transport.recv_into(memoryview(buffer)) == 3
    assert buffer == b"hel"
    assert transport.recv() == b"lo"


def test_what_comes_in_time_may_be_received_into_place(pair: Pair) -> None:
    client, transport = pair
    buffer = bytearray(100)
    client.sendall(b"hello")

    assert transport.recv_into(memoryview(buffer), PATIENCE) == 5


def test_the_end_of_the_stream_is_nothing_in_place(pair: Pair) -> None:
    leave(pair)

    assert pair[1].recv_into(memoryview(bytearray(3))) == 0


def test_to_receive_into_place_may_time_out(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[1].recv_into(memoryview(bytearray(3)), 0.01)


def test_to_try_to_receive_does_not_wait(pair: Pair) -> None:
    assert pair[1].try_recv() is None


def test_to_try_to_receive_into_place_does_not_wait(pair: Pair) -> None:
    assert pair[1].try_recv_into(memoryview(bytearray(3))) is None


def test_to_try_to_receive_takes_what_is_there(pair: Pair) -> None:
    client, transport = pair
    client.sendall(b"hello")
    wait(transport)

    assert transport.try_recv() == b"hello"


def test_to_try_to_receive_into_place_takes_what_is_there(pair: Pair) -> None:
    client, transport = pair
    buffer = bytearray(100)
    client.sendall(b"hello")
    wait(transport)

    assert transport.try_recv_into(memoryview(buffer)) == 5


def test_what_is_there_to_be_received_is_counted_and_stays(pair: Pair) -> None:
    client, transport = pair
    # TLS may have more to say of itself.
    while transport.try_recv() is not None:
        pass
    assert transport.count_unread() == 0
    client.sendall(b"hello")
    wait(transport)

    assert transport.count_unread() >= 5
    assert transport.try_recv() == b"hello"


def test_a_peer_that_is_there_has_not_gone(pair: Pair) -> None:
    pair[0].sendall(b"hello")
    wait(pair[1])

    assert not pair[1].has_gone()


def test_a_peer_is_seen_to_go_behind_what_nobody_has_read(pair: Pair) -> None:
    pair[0].sendall(b"hello")
    leave(pair)

    until(pair[1].has_gone)


def test_a_peer_that_resets_the_connection_has_gone() -> None:
    client, server = tcp_pair()
    transport = PlainTransport(server, threads, server.close)
    client.sendall(b"hello")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    until(transport.has_gone)
    transport.close()


def test_a_peer_that_closes_a_unix_socket_has_gone() -> None:
    client, server = socket.socketpair()
    transport = PlainTransport(server, threads, server.close)
    client.sendall(b"hello")
    assert not transport.has_gone()
    client.close()

    assert transport.has_gone()
    transport.close()


@pytest.mark.skipif(not LINUX, reason="only Linux tells")
def test_what_was_sent_is_acknowledged_by_the_peers_system(pair: Pair) -> None:
    """Though the peer has not read it."""
    pair[1].send([b"hello"])

    until(pair[1].is_acknowledged)


@pytest.mark.skipif(not LINUX, reason="only Linux tells")
def test_what_the_peers_system_has_no_room_for_is_not_acknowledged(pair: Pair) -> None:
    while pair[1].try_send(MUCH):
        pass

    assert not pair[1].is_acknowledged()


def test_what_is_received_at_once_is_bounded(pair: Pair) -> None:
    client, transport = pair
    sending = in_thread(client.sendall, MUCH)
    size = 0
    while size < len(MUCH):
        data = transport.recv(PATIENCE)
        assert 0 < len(data) <= 65536
        size += len(data)

    sending.result(PATIENCE)


# Sending


def test_what_is_sent_arrives(pair: Pair) -> None:
    client, transport = pair
    transport.send([b"hello"])

    assert client.recv(100) == b"hello"


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, SEND_SIZE, SEND_SIZE + 1, 3_000_000])
def test_a_header_and_its_payload_arrive_as_one(pair: Pair, size: int) -> None:
    client, transport = pair
    sending = in_thread(transport.send, [b"header", MUCH[:size]])

    assert take(client, 6 + size) == b"header" + MUCH[:size]
    sending.result(PATIENCE)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_bytes_like_payload_arrives(pair: Pair, kind: type[bytearray | memoryview]) -> None:
    client, transport = pair
    sending = in_thread(transport.send, [b"header", kind(MUCH)])

    assert take(client, 6 + len(MUCH)) == b"header" + MUCH
    sending.result(PATIENCE)


def test_to_try_to_send_takes_what_the_kernel_takes(pair: Pair) -> None:
    client, transport = pair
    sent = 0
    while size := transport.try_send(MUCH[:10_000]):
        sent += size

    assert take(client, sent) == (MUCH[:10_000] * (sent // 10_000 + 1))[:sent]


def test_to_try_to_send_does_not_wait(pair: Pair) -> None:
    transport = pair[1]
    while transport.try_send(MUCH[:10_000]):
        pass

    assert transport.try_send(MUCH[:10_000]) == 0


def test_what_was_sent_is_counted(pair: Pair) -> None:
    client, transport = pair
    sending = in_thread(transport.send, [b"header", MUCH])
    take(client, 6 + len(MUCH))
    sending.result(PATIENCE)

    assert transport.sent == 6 + len(MUCH)


def test_one_thread_may_send_while_another_receives(pair: Pair) -> None:
    client, transport = pair
    receiving = in_thread(transport.recv)
    sending = in_thread(transport.send, [MUCH])
    assert take(client, len(MUCH)) == MUCH
    client.sendall(b"hello")

    assert receiving.result(PATIENCE) == b"hello"
    sending.result(PATIENCE)


# The end


def test_the_end_is_seen_by_the_peer(pair: Pair) -> None:
    client, transport = pair
    transport.half_close()

    assert client.recv(1) == b""


def test_after_the_end_the_peer_may_send(pair: Pair) -> None:
    client, transport = pair
    transport.half_close()
    client.sendall(b"hello")

    assert transport.recv() == b"hello"


def test_the_end_may_come_twice(pair: Pair) -> None:
    pair[1].half_close()
    pair[1].half_close()


def test_an_abort_wakes_who_receives(pair: Pair) -> None:
    transport = pair[1]
    receiving = in_thread(transport.recv)
    transport.abort()

    # Windows, and OpenSSL since 3.4, call an end of one's own an error.
    error = receiving.exception(PATIENCE)
    assert isinstance(error, OSError) or receiving.result() == b""


def test_an_abort_wakes_who_sends(pair: Pair) -> None:
    client, transport = pair
    sending = in_thread(transport.send, [MUCH * 4])
    take(client, 1)
    transport.abort()

    assert isinstance(sending.exception(PATIENCE), OSError)


@pytest.mark.parametrize("make", [PlainTransport, TLSTransport])
def test_a_close_is_left_to_who_made_the_socket(make: type[Transport], tls: TLS) -> None:
    client, server = tcp_pair()
    if make is TLSTransport:
        server = tls[1].wrap_socket(server, server_side=True, do_handshake_on_connect=False)
    closed: list[int] = []
    transport = make(server, threads, lambda: closed.append(server.fileno()))
    transport.close()

    assert closed == [server.fileno()]
    assert server.fileno() != -1
    server.close()
    client.close()


# Failures of other TLS connections


@pytest.fixture
def two(tls: TLS) -> Iterator[list[TLSTransport]]:
    """Two TLS connections."""
    pairs = [tls_pair(tls) for _ in range(2)]
    transports = [TLSTransport(server, threads, server.close) for _, server in pairs]
    for transport in transports:
        # TLS may have more to say of itself.
        with pytest.raises(TimeoutError):
            transport.recv(0.01)
    yield transports
    for (client, _), transport in zip(pairs, transports, strict=True):
        client.close()
        transport.close()


def break_off(transport: TLSTransport) -> None:
    """Let the next use of a connection fail, in a call of the system's."""
    transport.abort()
    with contextlib.suppress(OSError):
        transport.send([b"x"])


def test_a_tls_connection_does_not_pay_for_the_failure_of_another(two: list[TLSTransport]) -> None:
    break_off(two[0])

    assert two[1].try_recv() is None
    two[1].send([b"x"])


def test_another_connections_failure_does_not_end_a_tls_connection(
    two: list[TLSTransport],
) -> None:
    """That of a library of the app's, on the same thread."""
    broken = two[0]
    broken.abort()
    with contextlib.suppress(OSError):
        broken._sslobj.write(b"x")

    assert two[1].try_recv() is None


def test_a_failure_of_ours_is_not_left_to_others(two: list[TLSTransport]) -> None:
    break_off(two[0])

    with pytest.raises(ssl.SSLWantReadError):
        two[1]._sslobj.read(1)


class Poisoned:
    """A TLS object whose calls fail once with an error that is another's, as since 3.12.8."""

    def __init__(self, sslobj: Any, failure: OSError) -> None:
        self._sslobj = sslobj
        self._failures = [failure]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self._failures:
                raise self._failures.pop()
            return getattr(self._sslobj, name)(*arguments)

        return call


FAILURES = [
    BrokenPipeError(32, "Broken pipe"),
    ssl.SSLError(1, "an error in the list"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_read_is_tried_again_after_anothers_failure(
    two: list[TLSTransport], failure: OSError
) -> None:
    two[0]._sslobj = Poisoned(two[0]._sslobj, failure)

    assert two[0].try_recv() is None


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_read_into_place_is_tried_again_after_anothers_failure(
    two: list[TLSTransport], failure: OSError
) -> None:
    two[0]._sslobj = Poisoned(two[0]._sslobj, failure)

    assert two[0].try_recv_into(memoryview(bytearray(3))) is None


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_a_write_is_tried_again_after_anothers_failure(
    two: list[TLSTransport], failure: OSError
) -> None:
    two[0]._sslobj = Poisoned(two[0]._sslobj, failure)

    assert two[0].try_send(b"hello") == 5


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_the_end_is_told_after_anothers_failure(pair: Pair, failure: OSError) -> None:
    client, transport = pair
    if isinstance(transport, TLSTransport):
        transport._sslobj = Poisoned(transport._sslobj, failure)
    transport.half_close()

    # Without TLS's own goodbye, this would be an error.
    assert client.recv(1) == b""


# Timeouts


@pytest.fixture
def default_timeout() -> Iterator[None]:
    """The process has a default timeout, longer than any test waits."""
    socket.setdefaulttimeout(6 * PATIENCE)
    yield
    socket.setdefaulttimeout(None)


def test_what_does_not_wait_does_not_wait_for_the_default_timeout(
    default_timeout: None, pair: Pair
) -> None:
    transport = pair[1]
    buffer = memoryview(bytearray(3))

    # TLS may have more to say of itself.
    assert in_thread(transport.try_recv).result(PATIENCE) is None
    assert in_thread(transport.try_recv_into, buffer).result(PATIENCE) is None
    assert in_thread(transport.count_unread).result(PATIENCE) == 0
    assert isinstance(in_thread(transport.recv, 0).exception(PATIENCE), TimeoutError)
    while in_thread(transport.try_send, MUCH).result(PATIENCE):
        pass


def test_what_waits_waits_longer_than_the_default_timeout(pair: Pair) -> None:
    client, server = pair[0], pair[1]
    socket.setdefaulttimeout(0.01)
    try:
        make, one = type(server), server.sock
        again = make(one, threads, lambda: None)
        receiving = in_thread(again.recv)
        assert is_waiting(receiving)
        client.sendall(b"hello")

        assert receiving.result(PATIENCE) == b"hello"
    finally:
        socket.setdefaulttimeout(None)
        again._raw.detach()


@pytest.mark.parametrize("timeout", [2.0**31 / 1000, 1e9, 1e300, float("inf")])
def test_a_timeout_may_be_longer_than_the_system_takes(pair: Pair, timeout: float) -> None:
    client, transport = pair
    receiving = in_thread(transport.recv, timeout)
    client.sendall(b"hello")

    assert receiving.result(PATIENCE) == b"hello"


def test_a_long_timeout_into_place_may_be_longer_than_the_system_takes(pair: Pair) -> None:
    client, transport = pair
    receiving = in_thread(transport.recv_into, memoryview(bytearray(9)), float("inf"))
    client.sendall(b"hello")

    assert receiving.result(PATIENCE) == 5


@pytest.mark.parametrize("timeout", [None, 0.05, float("inf")])
def test_to_wait_in_slices_is_to_wait(
    pair: Pair, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where nothing else tells that the connection was aborted on this side."""
    monkeypatch.setattr(transport_module, "LONGEST_WAIT", 0.01)
    client, transport = pair
    receiving = in_thread(Transport.recv, transport, timeout)
    if timeout == 0.05:
        assert isinstance(receiving.exception(PATIENCE), TimeoutError)
    else:
        assert is_waiting(receiving)
        client.sendall(b"hello")
        assert receiving.result(PATIENCE) == b"hello"


# The socket


def test_small_packets_are_not_held_back(pair: Pair) -> None:
    assert pair[1].sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_socket_without_tcp_will_do() -> None:
    one, other = socket.socketpair()
    transport = PlainTransport(one, threads, one.close)
    transport.send([b"hello"])

    assert other.recv(10) == b"hello"
    transport.close()
    other.close()


@pytest.mark.parametrize("timeout", [0, 5])
def test_the_timeout_that_the_server_has_set_does_not_count(timeout: float) -> None:
    one, other = socket.socketpair()
    one.settimeout(timeout)
    transport = PlainTransport(one, threads, one.close)
    receiving = in_thread(transport.recv)
    other.send(b"hello")

    assert receiving.result(PATIENCE) == b"hello"
    transport.close()
    other.close()


@pytest.mark.unix
@pytest.mark.parametrize("kind", ["plain", "TLS"])
def test_a_transport_that_is_forgotten_leaves_the_descriptor_to_its_owner(
    kind: str, tls: TLS
) -> None:
    client, server = tls_pair(tls) if kind == "TLS" else tcp_pair()
    with client, server:
        make = TLSTransport if kind == "TLS" else PlainTransport
        transport = make(server, threads, server.close)
        del transport
        gc.collect()

        # An error, where it is nobody's any more.
        os.fstat(server.fileno())
