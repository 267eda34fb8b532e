"""What only Waitress does."""

from __future__ import annotations

from tests.support.setups import OurSetup, on

from flask_ws.testing.suite.base import Launch, tracebacks
from flask_ws.testing.suite.process import Server
from flask_ws.testing.suite.raw import (
    TEXT,
    build_request,
    encode_frame,
    encode_message,
    handshake_headers,
    make_key,
)

from .ours import OurServers


@on(lambda setup: setup.server == "waitress")
class TestWaitress(OurServers):
    def test_both_requests_of_one_segment_are_answered_in_order(self, server: Server) -> None:
        """What is left of the first response goes out before the WebSocket is taken."""
        key = make_key()
        http = build_request("/http")
        upgrade = build_request("/echo", headers=handshake_headers(key))
        with server.dial() as peer:
            peer.send_bytes(http + upgrade + encode_message("early"))
            assert peer.read_response().text == "http"
            peer.read_upgrade(key)
            assert peer.read() == "early"
            peer.close()

    @tracebacks(1)
    def test_first_frames_that_waitress_took_for_a_request_end_the_connection(
        self, server: Server
    ) -> None:
        """An empty line among masked bytes, once in billions: they cannot be had any more."""
        frame = encode_frame(TEXT, b"\r\n\r\n", mask=bytes(4))
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(make_key()), body=frame)
            assert peer.read_response().status == 500
            peer.expect_end()

    @on(lambda setup: setup.main)
    def test_handler_that_is_kept_in_a_task_learns_that_the_server_stops(
        self, launch: Launch, setup: OurSetup
    ) -> None:
        server = launch()
        with server.connect("/events/kept") as peer:
            assert peer.echo("hello") == "hello"
            server.signal(setup.stop_signal)
            assert peer.read_close().close_code == 1001
            peer.send_close(1001)
            peer.expect_end()
        server.wait()
