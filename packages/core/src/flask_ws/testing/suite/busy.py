"""Connections whose handler does something else than receive."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from .base import Subject
from .process import Server
from .raw import BINARY, PING, PONG, encode_frame, encode_message
from .setups import on_close_codes, on_frames, on_main, on_threads, on_tls
from .split_tls import SplitTLS

#: Seconds that a client may wait for a pong while the handler is busy.
SOON = 2.0


class Busy(Subject):
    """Connections whose handler does something else than receive."""

    @on_main
    def test_ping_is_answered_while_the_handler_is_busy(self, server: Server) -> None:
        expect_pong(server, "/busy")

    @on_main
    @on_threads
    def test_ping_is_answered_while_the_handler_computes(self, server: Server) -> None:
        expect_pong(server, "/compute")

    @on_main
    @on_close_codes
    def test_close_is_answered_while_the_handler_is_busy(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/busy", tag=tag) as peer:
            started = time.monotonic()
            peer.send_close(4000)
            assert peer.read_close().close_code == 4000
            peer.expect_end()
            assert time.monotonic() - started < SOON
            server.release(tag)
        awake = server.log.event("awake", tag)
        assert (awake["connected"], awake["close_code"]) == (False, 4000)

    @on_main
    @on_close_codes
    def test_connected_turns_false_at_a_close(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/until-lost", tag=tag) as peer:
            peer.close(4000)
        noticed = server.log.event("noticed", tag, timeout=SOON)
        assert (noticed["connected"], noticed["close_code"]) == (False, 4000)

    @on_main
    @pytest.mark.parametrize("end", ["fin", "rst"])
    def test_connected_turns_false_at_a_loss(self, server: Server, end: str) -> None:
        tag = server.tag()
        peer = server.connect("/until-lost", tag=tag)
        if end == "fin":
            peer.sock.close()
        else:
            peer.reset()
        noticed = server.log.event("noticed", tag, timeout=SOON)
        assert (noticed["connected"], noticed["close_code"]) == (False, 1006)

    @on_main
    def test_messages_wait_for_a_busy_handler(self, server: Server) -> None:
        tag = server.tag()
        messages = [f"message {number}" for number in range(50)]
        with server.connect("/busy", tag=tag) as peer:
            for message in messages:
                peer.send(message)
            server.release(tag)
            assert [peer.read() for _ in messages] == messages
            peer.close()

    @on_main
    @on_close_codes
    def test_messages_before_a_close_are_still_received(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/busy", tag=tag) as peer:
            peer.send("before the close")
            peer.send_close(4000)
            peer.read_close()
            server.release(tag)
        end = server.log.event("end", tag)
        # The handler received the message; its echo then raised.
        assert (end["error"], end["code"]) == ("ConnectionClosed", 4000)

    @on_main
    @on_frames
    def test_busy_handlers_connection_is_kept_alive(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/busy-pinged", tag=tag) as peer:
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                peer.send_frame(PONG, peer.read_opcode(PING).payload)
            server.release(tag)
            peer.send("hello")
            while (frame := peer.read_frame()).opcode == PING:
                pass
            assert frame.payload == b"hello"
            peer.close()

    @on_main
    @on_frames
    def test_busy_handlers_full_queue_is_no_loss(self, server: Server) -> None:
        """While the queue is full no pongs are read: that must not count as a lost peer."""
        tag = server.tag()
        with server.connect("/busy-pinged", tag=tag) as peer:
            # In one piece: a Unix socket has no room for so many, and sending would wait.
            peer.send_bytes(b"".join(encode_message(f"message {each}") for each in range(100)))
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                peer.send_frame(PONG)
                time.sleep(0.1)
            server.release(tag)
            for number in range(100):
                while (frame := peer.read_frame()).opcode == PING:
                    pass
                assert frame.payload == f"message {number}".encode()
            peer.close()

    @on_main
    def test_http_goes_on_beside_busy_handlers(self, server: Server) -> None:
        tags = [server.tag() for _ in range(5)]
        peers = [server.connect("/busy", tag=tag) for tag in tags]
        try:
            started = time.monotonic()
            assert server.get("/http").text == "http"
            assert time.monotonic() - started < 1
            for tag in tags:
                server.release(tag)
            for peer in peers:
                peer.close()
        finally:
            for peer in peers:
                peer.sock.close()

    @on_main
    @on_frames
    def test_peer_that_stops_reading_is_no_business_of_others(self, server: Server) -> None:
        stuck = server.connect("/push", receive_buffer=4096)
        try:
            with server.connect() as peer:
                deadline = time.monotonic() + 1
                while time.monotonic() < deadline:
                    started = time.monotonic()
                    assert peer.echo("hello") == "hello"
                    assert time.monotonic() - started < 0.5
                peer.close()
            server.log.event("end", server.opened[0])
        finally:
            stuck.sock.close()

    @on_main
    @on_frames
    def test_peers_that_flood_with_pings_do_not_fill_memory(self, server: Server) -> None:
        """Each ping needs a pong, which this peer never reads."""
        tag = server.tag()
        with server.connect("/busy", tag=tag, receive_buffer=4096) as peer:
            before = server.usage().rss
            frame = encode_frame(PING, bytes(125)) * 500
            peer.sock.settimeout(0.5)
            deadline = time.monotonic() + 1.5
            with suppress(TimeoutError):
                while time.monotonic() < deadline:
                    peer.sock.send(frame)
            assert server.usage().rss - before < 12 << 20
            peer.reset()
            server.release(tag)
        server.log.event("end", tag)

    @on_main
    @on_tls
    @pytest.mark.parametrize("path", ["/echo", "/busy"])
    def test_half_a_tls_record_stalls_only_its_sender(self, server: Server, path: str) -> None:
        tag = server.tag()
        context = server.context()
        assert context is not None
        with SplitTLS(server.dial_plain(), context) as split:
            split.upgrade(server.target(path, tag), server.host)
            server.opened.append(tag)
            record = split.encrypt(encode_frame(BINARY, b"split"))
            split.sock.sendall(record[: len(record) // 2])
            busy = server.tag()
            with server.connect("/busy", tag=busy) as peer:
                # The thread that answers this ping also reads the split record of a busy handler.
                peer.send_frame(PING, b"hello")
                assert peer.read_opcode(PONG).payload == b"hello"
                server.release(busy)
                peer.close()
            with server.connect() as peer:
                assert peer.echo("hello") == "hello"
                peer.close()
            split.sock.sendall(record[len(record) // 2 :])
            server.release(tag)
            assert split.read_frame().payload == b"split"
            split.send(encode_frame(0x8, b"\x03\xe8"))
            assert split.read_frame().close_code == 1000


def expect_pong(server: Server, path: str) -> None:
    """Ping a handler that is busy; it is answered soon."""
    tag = server.tag()
    with server.connect(path, tag=tag) as peer:
        started = time.monotonic()
        peer.send_frame(PING, b"hello")
        assert peer.read_opcode(PONG).payload == b"hello"
        assert time.monotonic() - started < SOON
        server.release(tag)
        peer.close()
