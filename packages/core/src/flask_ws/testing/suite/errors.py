"""What a handler sees when a connection is lost, and what happens to what it raises."""

from __future__ import annotations

import pytest

from .base import Launch, Subject
from .process import Server
from .setups import on_close_codes, on_main


class Errors(Subject):
    """What a handler sees when a connection is lost."""

    @on_main
    def test_send_blocked_on_a_peer_that_resets_raises_connection_closed(
        self, server: Server
    ) -> None:
        tag = server.tag()
        peer = server.connect("/push", tag=tag, receive_buffer=4096)
        peer.read_frame()
        peer.reset()
        ended = server.log.event("end", tag)
        assert (ended["error"], ended["code"]) == ("ConnectionClosed", 1006)

    @on_main
    @on_close_codes
    def test_close_code_of_the_peer_is_found_by_a_failing_send(self, server: Server) -> None:
        """The close frame was not read yet when the send failed."""
        tag = server.tag()
        with server.connect("/busy", tag=tag) as peer:
            peer.send("echo this")
            peer.send_close(4000)
            server.release(tag)
            ended = server.log.event("end", tag)
        assert (ended["error"], ended["code"]) == ("ConnectionClosed", 4000)

    @on_main
    @pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt"])
    def test_exit_of_a_handler_says_1001_first(self, launch: Launch, name: str) -> None:
        server = launch(check=False)
        tag = server.tag()
        with server.connect(f"/exit/{name}", tag=tag) as peer:
            peer.send("go")
            assert peer.read_close().close_code == 1001
            peer.send_close(1001)
            peer.expect_end()
        assert server.log.event("end", tag)["error"].startswith(name)
