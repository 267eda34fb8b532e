"""Keepalive: quiet peers are pinged, connections to dead peers are closed."""

from __future__ import annotations

import time

from .base import Subject
from .process import Server
from .raw import PING, PONG, Peer
from .setups import on_frames, on_main

# The options of the route /pinged, in seconds.
PING_INTERVAL, PING_TIMEOUT = 0.2, 0.4
#: Seconds for delays of a loaded machine.
SLACK = 1.0


def answer_pings(peer: Peer, seconds: float) -> int:
    """Answer pings and send nothing else; returns the number of pings."""
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        peer.send_frame(PONG, peer.read_opcode(PING).payload)
        count += 1
    return count


@on_main
class Keepalive(Subject):
    """Quiet peers are pinged, connections to dead peers are closed."""

    @on_frames
    def test_quiet_peer_is_pinged(self, server: Server) -> None:
        with server.connect("/pinged") as peer:
            started = time.monotonic()
            peer.read_opcode(PING)
            assert PING_INTERVAL / 2 < time.monotonic() - started < PING_INTERVAL + SLACK
            peer.close()

    @on_frames
    def test_peer_that_answers_pings_is_kept(self, server: Server) -> None:
        with server.connect("/pinged") as peer:
            assert answer_pings(peer, 1.2) > 2
            peer.send("hello")
            while (frame := peer.read_frame()).opcode == PING:
                pass
            assert frame.payload == b"hello"
            peer.close()

    def test_peer_that_sends_data_is_kept_without_pongs(self, server: Server) -> None:
        with server.connect("/pinged") as peer:
            deadline = time.monotonic() + 1.2
            while time.monotonic() < deadline:
                assert peer.echo("alive") == "alive"
                time.sleep(0.05)
            peer.close()

    @on_frames
    def test_any_pong_counts_as_life(self, server: Server) -> None:
        with server.connect("/pinged") as peer:
            deadline = time.monotonic() + 1.2
            while time.monotonic() < deadline:
                peer.send_frame(PONG, b"not the one you asked for")
                time.sleep(0.1)
            peer.send("hello")
            while (frame := peer.read_frame()).opcode == PING:
                pass
            assert frame.payload == b"hello"
            peer.close()

    @on_frames
    def test_receive_raises_1006_when_pings_are_not_answered(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/pinged", tag=tag):
            end = server.log.event("end", tag)
        assert (end["error"], end["code"]) == ("ConnectionClosed", 1006)
        assert end["seconds"] < PING_INTERVAL + PING_TIMEOUT + SLACK

    @on_frames
    def test_blocked_send_raises_1006_when_pings_are_not_answered(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/push", tag=tag, receive_buffer=4096):
            end = server.log.event("end", tag)
        assert (end["error"], end["code"]) == ("ConnectionClosed", 1006)
        # The ping is behind what could not be sent, which is when its time begins.
        assert end["seconds"] < 0.3 + 2 * 0.5 + SLACK

    def test_no_ping_without_an_interval(self, server: Server) -> None:
        with server.connect("/unpinged") as peer:
            peer.expect_silence(0.6)
            peer.close()

    @on_frames
    def test_ping_of_the_handler_has_its_payload(self, server: Server) -> None:
        with server.connect("/pong") as peer:
            assert peer.read_opcode(PING).payload == b"are you there"
            peer.send_frame(PONG, b"are you there")
            assert peer.echo("hello") == "hello"
            peer.close()

    def test_receive_with_a_timeout_returns_none(self, server: Server) -> None:
        with server.connect("/timeout?seconds=0.2") as peer:
            answer = peer.read()
            assert isinstance(answer, str)
            assert '"message":null' in answer.replace(" ", "")
            assert peer.echo("hello") == "hello"
            peer.close()
