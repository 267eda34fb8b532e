"""Faults that WebSocket routes on WSGI servers are known for: each has its test here."""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import struct
import termios
import time
from contextlib import suppress

import psutil
import pytest
from flask import Flask
from tests.support.raw import (
    BINARY,
    TEXT,
    Peer,
    encode_frame,
    encode_message,
    handshake_headers,
)
from tests.support.server import Server, wait_until
from tests.support.setups import GUNICORN, Setup, on, on_main

from flask_ws import Sock, WebSocket

from .conftest import Launch


def test_01_oversized_message_ends_receive(server: Server) -> None:
    tag = server.tag()
    with server.connect("/small", tag=tag) as peer:
        peer.send_frame(BINARY, bytes(1001))
        assert peer.read_close().close_code == 1009
        peer.send_close(1009)
        peer.expect_end()
        end = server.log.event("end", tag)
    assert (end["error"], end["code"]) == ("ConnectionClosed", 1009)


@pytest.mark.parametrize("path", ["/close/4001", "/return"])
def test_02_server_writes_no_http_on_the_upgraded_socket(server: Server, path: str) -> None:
    with server.connect(path) as peer:
        peer.read_close(after="anything")
        peer.send_close(1000)
        assert peer.read_until_eof().data == b""


@pytest.mark.tracebacks(1)
@pytest.mark.parametrize("path", ["/raise", "/abort"])
def test_03_exception_after_the_101_is_1011_and_no_http(server: Server, path: str) -> None:
    with server.connect(path) as peer:
        assert peer.read_frame().opcode == TEXT
        assert peer.answer_close().close_code == 1011


def unread(sock: socket.socket) -> int:
    """How many bytes the kernel holds for us."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))
    return int(size)


def await_full(peer: Peer) -> None:
    """Wait until no more bytes come, because nobody reads them."""
    seen: list[int] = []

    def is_stuck() -> bool:
        seen.append(unread(peer.sock))
        return len(seen) > 10 and seen[-1] > 0 and len(set(seen[-10:])) == 1

    wait_until(is_stuck)


def test_04_partial_send_is_finished(server: Server) -> None:
    size = 8_000_000 // 256 * 256
    with server.connect(f"/big/{size}", receive_buffer=65536) as peer:
        await_full(peer)
        assert peer.read() == bytes(range(256)) * (size // 256)
        assert peer.read() == "end"
        peer.close()


def test_05_concurrent_sends_do_not_interleave(server: Server) -> None:
    senders, number = 8, 25
    expected = {
        sender: [(sender * 7919 + message * 104729) % 70000 for message in range(number)]
        for sender in range(senders)
    }
    with server.connect(f"/fan/{senders}/{number}") as peer:
        arrived: dict[int, list[int]] = {sender: [] for sender in range(senders)}
        empty = 0
        for _ in range(senders * number):
            message = peer.read()
            assert isinstance(message, bytes)
            assert len(set(message)) <= 1
            if message:
                arrived[message[0]].append(len(message))
            else:
                empty += 1
        peer.send("done")
        peer.answer_close()
    assert arrived == {sender: [s for s in sizes if s] for sender, sizes in expected.items()}
    assert empty == sum(sizes.count(0) for sizes in expected.values())


@on(lambda setup: setup.tls)
def test_06_tls_replies_do_not_wait_for_the_next_ping(server: Server) -> None:
    """Several messages in one TLS record: the socket says that there is nothing more to read."""
    messages = [f"message {number}" for number in range(50)]
    with server.connect("/ping-once-a-second") as peer:
        started = time.monotonic()
        peer.send_bytes(b"".join(map(encode_message, messages)))
        assert [peer.read() for _ in messages] == messages
        assert time.monotonic() - started < 0.9
        peer.close()


@on_main
@pytest.mark.parametrize("end", ["fin", "rst", "close"])
def test_07_send_raises_nothing_but_connection_closed(server: Server, end: str) -> None:
    tag = server.tag()
    peer = server.connect("/send-after/0.1", tag=tag)
    peer.send("go")
    if end == "close":
        peer.send_close(4000)
    if end == "rst":
        peer.reset()
    else:
        peer.sock.close()
    ended = server.log.event("end", tag)
    assert ended["error"] == "ConnectionClosed"
    assert ended["code"] in ((4000, 1006) if end == "close" else (1006,))


@on_main
@pytest.mark.parametrize("end", ["ping-timeout", "fin", "rst"])
def test_08_lost_connection_is_1006(server: Server, end: str) -> None:
    tag = server.tag()
    with server.connect("/pinged", tag=tag) as peer:
        if end == "fin":
            peer.sock.close()
        elif end == "rst":
            peer.reset()
        assert server.log.event("end", tag)["code"] == 1006


@on_main
def test_09_peer_that_ignores_the_close_leaks_nothing(server: Server) -> None:
    """The handler has returned; the peer neither answers the close nor closes."""
    with server.connect("/return-to-a-stone") as peer:
        peer.read_close()
        peer.send_close()
        peer.expect_end()
    server.await_access_line(server.opened[0])
    fds, threads = server.usage().fds, server.threads()
    peers = [server.connect("/return-to-a-stone") for _ in range(5)]
    try:
        for peer in peers:
            peer.read_close()
            peer.expect_end(timeout=5)

        wait_until(lambda: server.usage().fds <= fds, what="descriptors to be freed")
        wait_until(lambda: server.threads() <= threads, what="threads to end")
    finally:
        for peer in peers:
            peer.sock.close()


def push(peer: Peer, total: int) -> int:
    """Send without reading until TCP pushes back for good; returns the bytes that went."""
    frame = encode_frame(BINARY, bytes(65536))
    sent = 0
    peer.sock.settimeout(0.7)
    with suppress(TimeoutError):
        while sent < total:
            view = memoryview(frame)
            while view:
                taken = peer.sock.send(view)
                sent += taken
                view = view[taken:]
    return sent


@on_main
def test_10_client_that_pushes_a_gigabyte_is_pushed_back(server: Server) -> None:
    tag = server.tag()
    with server.connect("/busy", tag=tag) as peer:
        before = server.usage().rss
        sent = push(peer, 1 << 30)
        # Kernel buffers of both sides, and what max_queue lets in.
        assert sent < 24 << 20
        assert server.usage().rss - before < 12 << 20
        peer.reset()
        server.release(tag)
    assert server.log.event("end", tag)["error"] == "ConnectionClosed"


@pytest.mark.parametrize(("message", "fits"), [("é" * 500, True), ("é" * 501, False)])
def test_11_max_message_size_counts_bytes(server: Server, message: str, fits: bool) -> None:
    with server.connect("/small") as peer:
        peer.send(message)
        if fits:
            assert peer.read() == message
            peer.close()
        else:
            assert peer.read_close().close_code == 1009
            peer.send_close(1009)
            peer.expect_end()


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize(
    ("key", "version", "status"),
    [
        pytest.param(None, "13", 400, id="no-key"),
        pytest.param("AAAA", "13", 400, id="short-key"),
        pytest.param("*" * 24, "13", 400, id="key-not-base64"),
        pytest.param(KEY, "8", 426, id="version-8"),
        pytest.param(KEY, None, 426, id="no-version"),
    ],
)
def test_12_wrong_handshake_is_refused(
    server: Server, key: str | None, version: str | None, status: int
) -> None:
    with server.dial() as peer:
        peer.send_request("/echo", headers=handshake_headers(key, version=version))
        response = peer.read_response()
    assert response.status == status
    assert response.get("Sec-WebSocket-Version") == ("13" if status == 426 else None)


@on(lambda setup: "eventlet" in setup.name)
def test_13_close_from_the_server_logs_no_traceback_on_eventlet(server: Server) -> None:
    """What the fixture finds in the log is the claim."""
    with server.connect("/close/4001") as peer:
        assert peer.answer_close().close_code == 4001
    assert server.await_access_line(server.opened[0]) == 101


@on(lambda setup: setup.server == "gevent" or setup.name == "gunicorn-pywsgi")
def test_14_tcp_ends_after_the_servers_close_on_gevent(server: Server) -> None:
    with server.connect("/close/4001") as peer:
        peer.read_close()
        peer.send_close(4001)
        assert peer.read_until_eof().seconds < 1
        # The peer has not closed yet.
        assert server.await_access_line(server.opened[0]) == 101


@on(lambda setup: setup.gunicorn)
def test_15_idle_socket_is_told_at_sigterm(launch: Launch) -> None:
    server = launch()
    tag = server.tag()
    with server.connect(tag=tag) as peer:
        server.log.event("begin", tag)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert peer.answer_close().close_code == 1001
        assert time.monotonic() - started < 1.5
    assert server.log.event("end", tag)["code"] == 1001


@on(lambda setup: setup.name in ("gunicorn-sync", "gunicorn-sync-tls", "gunicorn-threads"))
def test_16_open_sockets_do_not_stop_http_or_their_worker(launch: Launch) -> None:
    server = launch(extra="--timeout 2")
    (worker,) = {process.pid for process in server.processes()[1:]}
    with server.connect() as peer, server.connect("/echo/held"):
        assert server.get("/http").text == "http"
        # Past the timeout and the arbiter's next look: nothing happens that could be awaited.
        time.sleep(3.5)
        assert peer.echo("hello") == "hello"
        assert psutil.pid_exists(worker)
        assert server.get("/http").text == "http"


def test_17_websocket_that_ended_normally_has_an_access_line(server: Server) -> None:
    tags = [server.tag() for _ in range(3)]
    for tag in tags:
        with server.connect(tag=tag) as peer:
            peer.close()
    assert [server.await_access_line(tag) for tag in tags] == [101] * 3


def test_18_route_returns_its_handler() -> None:
    def handler(ws: WebSocket) -> None: ...

    assert Sock(Flask(__name__)).route("/")(handler) is handler


def test_18_async_handler_is_refused() -> None:
    async def handler(ws: WebSocket) -> None: ...

    with pytest.raises(TypeError, match="async"):
        Sock(Flask(__name__)).route("/")(handler)


def test_19_routes_added_later_reach_every_app(launch_other: Launch) -> None:
    setup = Setup(
        "two-apps",
        f"{GUNICORN} --threads 4 two_apps:application",
        "gunicorn",
    )
    server = launch_other(setup, ready="/first/http")
    for app in ("first", "second"):
        for route in ("before", "after"):
            with server.connect(f"/{app}/{route}") as peer:
                assert json.loads(peer.read()) == [app, route]
                peer.answer_close()


def test_20_frames_in_the_segment_of_the_handshake_are_answered(server: Server) -> None:
    early = encode_message("one") + encode_message(b"two")
    with server.connect(early=early) as peer:
        assert [peer.read(), peer.read()] == ["one", b"two"]
        peer.close()
