"""Known faults of WebSocket routes on WSGI servers, by number.

Those that only one server can have are tested with that server.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from contextlib import suppress

import pytest

from .base import Subject, tracebacks
from .process import Server, wait_until
from .raw import (
    BINARY,
    TEXT,
    Peer,
    encode_frame,
    encode_message,
    handshake_headers,
)
from .setups import on_access_log, on_early_frames, on_frames, on_main, on_tls


def unread(sock: socket.socket) -> int:
    """How many bytes the kernel has received and nobody has read."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))
    return int(size)


def await_full(peer: Peer) -> None:
    """Wait until the receive buffer is full, and no more bytes come."""
    seen: list[int] = []

    def is_stuck() -> bool:
        seen.append(unread(peer.sock))
        return len(seen) > 10 and seen[-1] > 0 and len(set(seen[-10:])) == 1

    wait_until(is_stuck)


def push(peer: Peer, total: int) -> int:
    """Send without reading until TCP backpressure lasts; returns the number of bytes sent."""
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


KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Faults(Subject):
    """Each fault has its test."""

    def test_01_oversized_message_ends_receive(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/small", tag=tag) as peer:
            peer.send_frame(BINARY, bytes(1001))
            assert peer.read_close().close_code == 1009
            peer.send_close(1009)
            peer.expect_end()
            end = server.log.event("end", tag)
        assert (end["error"], end["code"]) == ("ConnectionClosed", 1009)

    @pytest.mark.parametrize("path", ["/close/4001", "/return"])
    def test_02_server_writes_no_http_on_the_upgraded_socket(
        self, server: Server, path: str
    ) -> None:
        with server.connect(path) as peer:
            peer.read_close(after="anything")
            peer.send_close(1000)
            assert peer.read_until_eof().data == b""

    @tracebacks(1)
    @pytest.mark.parametrize("path", ["/raise", "/abort"])
    def test_03_exception_after_the_101_is_1011_and_no_http(
        self, server: Server, path: str
    ) -> None:
        with server.connect(path) as peer:
            assert peer.read_frame().opcode == TEXT
            assert peer.answer_close().close_code == 1011

    def test_04_partial_send_is_finished(self, server: Server) -> None:
        size = 8_000_000 // 256 * 256
        with server.connect(f"/big/{size}", receive_buffer=65536) as peer:
            await_full(peer)
            assert peer.read() == bytes(range(256)) * (size // 256)
            assert peer.read() == "end"
            peer.close()

    def test_05_concurrent_sends_do_not_interleave(self, server: Server) -> None:
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

    @on_tls
    def test_06_tls_replies_do_not_wait_for_the_next_ping(self, server: Server) -> None:
        """The rest of a TLS record is decrypted already: the socket is not readable."""
        messages = [f"message {number}" for number in range(50)]
        with server.connect("/ping-once-a-second") as peer:
            started = time.monotonic()
            peer.send_bytes(b"".join(map(encode_message, messages)))
            assert [peer.read() for _ in messages] == messages
            assert time.monotonic() - started < 0.9
            peer.close()

    @on_main
    @pytest.mark.parametrize("end", ["fin", "rst", "close"])
    def test_07_send_raises_nothing_but_connection_closed(self, server: Server, end: str) -> None:
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
    @on_frames
    def test_08_lost_connection_is_1006(self, server: Server, end: str) -> None:
        tag = server.tag()
        with server.connect("/pinged", tag=tag) as peer:
            if end == "fin":
                peer.sock.close()
            elif end == "rst":
                peer.reset()
            assert server.log.event("end", tag)["code"] == 1006

    @on_main
    @on_frames
    def test_09_peer_that_ignores_the_close_leaks_nothing(self, server: Server) -> None:
        """The handler has returned; the peer neither answers the close nor closes."""
        server.warm_up()
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

    @on_main
    @pytest.mark.parametrize("path", ["/busy", "/events/block"])
    def test_10_client_that_pushes_a_gigabyte_is_pushed_back(
        self, server: Server, path: str
    ) -> None:
        tag = server.tag()
        with server.connect(path, tag=tag) as peer:
            peer.send("block")
            before = server.usage().rss
            sent = push(peer, 1 << 30)
            # The kernel buffers of both sides, and the messages that max_queue allows.
            assert sent < 24 << 20
            assert server.usage().rss - before < 12 << 20
            peer.reset()
            server.release(tag)
        assert server.log.event("end", tag)["code"] == 1006

    @pytest.mark.parametrize(("message", "fits"), [("é" * 500, True), ("é" * 501, False)])
    def test_11_max_message_size_counts_bytes(
        self, server: Server, message: str, fits: bool
    ) -> None:
        with server.connect("/small") as peer:
            peer.send(message)
            if fits:
                assert peer.read() == message
                peer.close()
            else:
                assert peer.read_close().close_code == 1009
                peer.send_close(1009)
                peer.expect_end()

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
    @on_frames
    def test_12_wrong_handshake_is_refused(
        self, server: Server, key: str | None, version: str | None, status: int
    ) -> None:
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(key, version=version))
            response = peer.read_response()
        assert response.status == status
        assert response.get("Sec-WebSocket-Version") == ("13" if status == 426 else None)

    @on_access_log
    def test_17_websocket_that_ended_normally_has_an_access_line(self, server: Server) -> None:
        tags = [server.tag() for _ in range(3)]
        for tag in tags:
            with server.connect(tag=tag) as peer:
                peer.close()
        assert [server.await_access_line(tag) for tag in tags] == [101] * 3

    @on_early_frames
    def test_20_frames_in_the_segment_of_the_handshake_are_answered(self, server: Server) -> None:
        early = encode_message("one") + encode_message(b"two")
        with server.connect(early=early) as peer:
            assert [peer.read(), peer.read()] == ["one", b"two"]
            peer.close()
