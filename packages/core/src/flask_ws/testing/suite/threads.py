"""Which threads may do what with a connection."""

from __future__ import annotations

import json

from .base import Subject
from .process import Server
from .raw import PING, PONG
from .setups import on_frames, on_main


class Threads(Subject):
    """Which threads may do what with a connection."""

    def test_another_thread_sends_while_the_handler_receives(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/other-thread/send", tag=tag) as peer:
            peer.send("go")
            assert peer.read() == "from a thread"
            assert server.log.event("acted", tag)["error"] is None
            assert peer.echo("hello") == "hello"
            peer.close()

    @on_frames
    def test_another_thread_pings_while_the_handler_receives(self, server: Server) -> None:
        with server.connect("/other-thread/ping") as peer:
            peer.send("go")
            peer.send_frame(PONG, peer.read_opcode(PING).payload)
            assert peer.echo("hello") == "hello"
            peer.close()

    def test_another_thread_closes_while_the_handler_receives(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/other-thread/close", tag=tag) as peer:
            peer.send("go")
            assert peer.answer_close().close_code == 4001
        assert server.log.event("acted", tag)["error"] is None
        end = server.log.event("end", tag)
        assert (end["error"], end["code"]) == ("ConnectionClosed", 4001)

    def test_second_reader_gets_a_clear_error(self, server: Server) -> None:
        with server.connect("/two-readers") as peer:
            peer.send("go")
            answer = peer.read()
            assert isinstance(answer, str)
            assert answer.startswith("RuntimeError: ")
            assert "receive()" in answer
            assert peer.echo("hello") == "hello"
            peer.close()

    @on_main
    def test_idle_connections_share_one_monitor(self, server: Server) -> None:
        peers = [server.connect("/hold") for _ in range(5)]
        try:
            assert {peer.read() for peer in peers} == {"held"}
            names = json.loads(server.get("/process").body)["threads"]
            assert len([name for name in names if "Monitor" in name]) <= 1
            for peer in peers:
                peer.close()
        finally:
            for peer in peers:
                peer.sock.close()
