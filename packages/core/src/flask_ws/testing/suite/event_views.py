"""Event views: the same on every server, whether on the reactor or inline."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from .base import Launch, Subject, tracebacks
from .messages import connect_websockets
from .process import Server, wait_until
from .raw import BINARY, PING, PONG, TEXT, End, Peer, encode_frame, encode_message
from .setups import (
    on_awaited_answers,
    on_blocking,
    on_close_codes,
    on_close_reasons,
    on_compression,
    on_early_frames,
    on_frames,
    on_main,
    on_one_process,
    on_queued_sends,
    on_reactor,
)

#: Seconds for delays of a loaded machine.
SLACK = 2.0


def ended(server: Server, tag: str) -> Any:
    """Await on_close and return its code; it may be called only once."""
    end = server.log.event("end", tag)
    assert end["times"] == 1
    assert not end["connected"]
    return end["code"]


def await_idle_threads(server: Server) -> list[str]:
    """Wait until a process has only the threads that it keeps for event views; return all names.

    Threads that answered handshakes wait a second for more work.
    """
    kept = ["flask_ws.Monitor", "flask_ws.Reactor", "flask_ws.Reactor"]
    if server.setup.handlers == "async":
        kept = ["flask_ws.Monitor", "flask_ws.Watchdog", "flask_ws.asyncio"]
        if not server.setup.capabilities.frames:
            # Their loop is the server's.
            kept.remove("flask_ws.asyncio")

    def look() -> list[str] | None:
        names: list[str] = json.loads(server.get("/process").body)["threads"]
        own = sorted(name.split("-")[0] for name in names if "flask_ws" in name)
        return names if own == kept else None

    return wait_until(look, what="the threads of handshakes to end", every=0.1)


class EventViews(Subject):
    """Event views, whether on the reactor or inline."""

    # Messages

    @pytest.mark.parametrize("message", ["", "h", "emoji \U0001f9e6", b"", b"\x00\xff", b"b" * 126])
    def test_messages_come_back_as_they_went(self, server: Server, message: str | bytes) -> None:
        with server.connect("/events/echo") as peer:
            assert peer.echo(message) == message
            peer.close()

    @pytest.mark.parametrize("size", [65_535, 65_536, 1_000_000])
    def test_large_messages_come_back_whole(self, server: Server, size: int) -> None:
        data = bytes(range(256)) * (size // 256) + bytes(size % 256)
        with server.connect("/events/echo") as peer:
            assert peer.echo(data) == data
            peer.close()

    @on_compression
    def test_compressed_messages_come_back(self, server: Server) -> None:
        text = "compressible " * 1000
        with connect_websockets(server, "/events/echo") as client:
            assert client.response is not None
            assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
            for number in range(5):
                client.send(f"{number} {text}")
                assert client.recv(timeout=5) == f"{number} {text}"

    @on_early_frames
    def test_frames_in_the_segment_of_the_handshake_are_served(self, server: Server) -> None:
        early = encode_message("one") + encode_message("two")
        with server.connect("/events/echo", early=early) as peer:
            assert [peer.read(), peer.read()] == ["one", "two"]
            peer.close()

    def test_messages_keep_their_order_and_methods_never_overlap(self, server: Server) -> None:
        with server.connect("/events/order") as peer:
            messages = [encode_message(str(number)) for number in range(300)]
            peer.send_bytes(b"".join(messages[:150]))
            for message in messages[150:]:
                peer.send_bytes(message)
            assert peer.echo("done") == "[]"
            peer.close()

    @on_main
    @on_reactor
    @on_blocking
    def test_methods_never_overlap_on_many_threads(self, launch: Launch, peers: list[Peer]) -> None:
        server = launch(environ={"LIVE_CONFIG": '{"SOCK_WORKERS": 8}'})
        peers += [server.connect("/events/order") for _ in range(20)]
        for number in range(100):
            for peer in peers:
                peer.send(str(number))
        for peer in peers:
            assert peer.echo("done") == "[]"
            peer.close()

    def test_other_threads_send_while_messages_are_echoed(self, server: Server) -> None:
        with server.connect("/events/fan/4/20") as peer:
            peer.send("go")
            received: dict[str | int, int] = dict.fromkeys(["echo", *range(4)], 0)
            for number in range(4 * 20 + 10):
                if number < 10:
                    peer.send("echo")
                message = peer.read()
                if isinstance(message, bytes) and message:
                    assert set(message) == {message[0]}, "messages are mixed up"
                    received[message[0]] += 1
                elif message:
                    received["echo"] += 1
                else:
                    # An empty message does not show its sender; each sender has one of size 0.
                    received[0] += 1
            assert received == {"echo": 10, 0: 20, 1: 20, 2: 20, 3: 20}
            peer.close()

    def test_receive_is_refused_in_words(self, server: Server) -> None:
        with server.connect("/events/receive") as peer:
            answer = peer.echo("hello")
            assert isinstance(answer, str)
            assert "on_message()" in answer
            peer.close()

    def test_view_without_methods_is_served(self, server: Server) -> None:
        with server.connect("/events/empty") as peer:
            peer.send("hello")
            assert peer.close(4000).close_code == 4000

    # The request

    def test_each_call_has_the_request_and_an_empty_g(self, server: Server) -> None:
        tag = server.tag()
        with server.connect(
            "/events/context/lobby", tag=tag, headers=[("Cookie", "crumb=sweet")]
        ) as peer:
            calls = [json.loads(peer.read())]
            calls += [json.loads(peer.echo("hello")) for _ in range(3)]
            peer.close()
        calls.append(server.log.event("closed", tag))
        for call in calls:
            assert (call["path"], call["room"]) == ("/events/context/lobby", "lobby")
            assert call["cookies"] == {"crumb": "sweet"}
            assert call["g"] == []

    def test_each_call_is_torn_down_once(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/context/lobby", tag=tag) as peer:
            calls = [json.loads(peer.read())]
            calls += [json.loads(peer.echo("hello")) for _ in range(3)]
            peer.close()
        calls.append(server.log.event("closed", tag))
        assert [call["teardowns"] for call in calls] == [0, 1, 2, 3, 4]

    # The end: on_close is called once, with the code that tells how

    @on_close_reasons
    def test_close_from_the_client(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/echo", tag=tag) as peer:
            assert peer.echo("hello") == "hello"
            assert peer.close(4000, "enough").close_code == 4000
        assert ended(server, tag) == 4000
        assert server.log.event("end", tag)["reason"] == "enough"

    def test_close_from_the_view(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/close/4001", tag=tag) as peer:
            peer.send("so")
            frame = peer.answer_close()
            assert (frame.close_code, frame.close_reason) == (4001, "so")
        assert ended(server, tag) == 4001

    @on_frames
    def test_close_that_the_client_does_not_answer(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/close/4001", tag=tag) as peer:
            peer.send("so")
            peer.read_close()
            # The route's close_timeout is 0.2 s.
            peer.expect_end(0.2 + SLACK)
        assert ended(server, tag) == 1006

    @tracebacks(1)
    @on_awaited_answers
    @pytest.mark.parametrize("method", ["on_open", "on_message"])
    def test_exception_is_1011(self, server: Server, method: str) -> None:
        tag = server.tag()
        with server.connect(f"/events/raise/{method}", tag=tag) as peer:
            peer.send("hello")
            assert peer.answer_close().close_code == 1011
        assert ended(server, tag) == 1011
        server.log.find(f"failed on purpose {tag}")

    @tracebacks(1)
    @on_close_codes
    def test_exception_in_on_close_is_logged(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/raise/on_close", tag=tag) as peer:
            assert peer.close(4000).close_code == 4000
        assert ended(server, tag) == 4000
        server.log.find(f"failed on purpose {tag}")

    def test_fin_is_1006(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/echo", tag=tag) as peer:
            assert peer.echo("hello") == "hello"
        assert ended(server, tag) == 1006

    def test_half_closed_tcp_is_1006(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/echo", tag=tag) as peer:
            peer.finish_sending()
            peer.read_until_eof()
        assert ended(server, tag) == 1006

    def test_rst_is_1006(self, server: Server) -> None:
        tag = server.tag()
        peer = server.connect("/events/echo", tag=tag)
        assert peer.echo("hello") == "hello"
        peer.reset()
        assert ended(server, tag) == 1006

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            pytest.param(encode_frame(0x3, b"reserved"), 1002, id="1002"),
            pytest.param(encode_frame(TEXT, b"\xff\xff"), 1007, id="1007"),
            pytest.param(encode_frame(BINARY, bytes(1001)), 1009, id="1009"),
        ],
    )
    @on_frames
    def test_violation_has_its_code(self, server: Server, frame: bytes, code: int) -> None:
        tag = server.tag()
        with server.connect("/events/small", tag=tag) as peer:
            peer.send_bytes(frame)
            assert peer.read_close().close_code == code
            peer.expect_end()
        assert ended(server, tag) == code

    @on_main
    @on_frames
    def test_ping_without_an_answer_is_1006(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/pinged", tag=tag) as peer:
            peer.read_opcode(PING)
            assert ended(server, tag) == 1006
            assert peer.read_until_eof().end in End

    @on_main
    @on_frames
    def test_views_peer_that_answers_pings_is_kept(self, server: Server) -> None:
        with server.connect("/events/pinged") as peer:
            deadline = time.monotonic() + 1.2
            while time.monotonic() < deadline:
                peer.send_frame(PONG, peer.read_opcode(PING).payload)
            peer.send("hello")
            while (frame := peer.read_frame()).opcode == PING:
                pass
            assert frame.payload == b"hello"
            peer.close()

    @on_queued_sends
    def test_reader_that_does_not_read_is_1013_and_logged(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/stall", tag=tag, receive_buffer=4096) as peer:
            beginning = server.log.size()
            peer.send("go")
            assert server.log.event("stalled", tag)["code"] == 1013
            assert ended(server, tag) == 1013
            server.log.find(r"/events/stall.*SOCK_MAX_OUTBOX", since=beginning)

    @on_queued_sends
    def test_reader_that_reads_late_finds_1013(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/stall", tag=tag, receive_buffer=4096) as peer:
            peer.send("go")
            server.log.event("stalled", tag)
            assert peer.read_close(after="anything").close_code == 1013

    # One connection does not delay another

    @on_main
    @on_one_process
    @on_queued_sends
    def test_stalled_reader_is_no_business_of_others(
        self, server: Server, peers: list[Peer]
    ) -> None:
        """In a room where one does not read, the others get everything, and it is closed."""
        room, stuck = f"/events/room/{server.tag()}", server.tag()
        peers.append(server.connect(room, tag=stuck, receive_buffer=4096))
        others = [server.connect(room) for _ in range(3)]
        peers += others
        for peer in peers:
            assert peer.read() == "welcome"
        for _ in range(100):
            others[0].send("100000")
            for peer in others:
                assert len(peer.read()) == 100_000
        server.log.find(r"/events/room/.*SOCK_MAX_OUTBOX")
        assert ended(server, stuck) == 1013
        for peer in others:
            peer.close()

    @on_main
    def test_method_that_blocks_holds_up_nobody_else(
        self, server: Server, peers: list[Peer]
    ) -> None:
        tag = server.tag()
        # First, because the other's pings are not answered meanwhile.
        other = server.connect("/events/echo")
        blocked = server.connect("/events/block", tag=tag)
        peers += [blocked, other]
        blocked.send("block")
        for _ in range(20):
            assert other.echo("hello") == "hello"
        assert server.get("/http").text == "http"
        server.release(tag)
        server.log.event("awake", tag)
        other.close()

    @on_main
    def test_ping_is_answered_while_a_method_blocks(
        self, server: Server, peers: list[Peer]
    ) -> None:
        tag = server.tag()
        blocked = server.connect("/events/block", tag=tag)
        peers.append(blocked)
        blocked.send("block")
        blocked.send_frame(PING, b"hello")
        while (frame := blocked.read_frame()).opcode == PING:
            blocked.send_frame(PONG, frame.payload)
        assert (frame.opcode, frame.payload) == (PONG, b"hello")
        server.release(tag)
        server.log.event("awake", tag)

    @on_main
    @on_close_codes
    def test_close_is_seen_while_a_method_blocks(self, server: Server, peers: list[Peer]) -> None:
        tag = server.tag()
        blocked = server.connect("/events/block", tag=tag)
        peers.append(blocked)
        blocked.send("block")
        blocked.send_close(4000)
        while (frame := blocked.read_frame()).opcode == PING:
            pass
        assert frame.close_code == 4000
        server.release(tag)
        awake = server.log.event("awake", tag)
        assert (awake["connected"], awake["close_code"]) == (False, 4000)
        assert ended(server, tag) == 4000

    # What it costs

    @on_main
    @on_reactor
    def test_idle_connections_need_no_threads(self, launch: Launch, peers: list[Peer]) -> None:
        server = launch()
        peers += [server.connect("/events/echo") for _ in range(100)]
        for peer in peers[::50]:
            assert peer.echo("hello") == "hello"
        assert server.get("/http").text == "http"
        await_idle_threads(server)

    # Kept in the server's worker

    @on_main
    @on_close_codes
    def test_view_that_is_kept_in_the_worker_behaves_the_same(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/events/kept", tag=tag) as peer:
            assert [peer.echo(message) for message in ("one", b"two")] == ["one", b"two"]
            assert peer.close(4000).close_code == 4000
        assert ended(server, tag) == 4000
