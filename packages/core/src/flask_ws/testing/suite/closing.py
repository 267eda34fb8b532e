"""How connections end: the closing handshake, then TCP."""

from __future__ import annotations

import time

from .base import Subject, tracebacks
from .process import Server
from .raw import CLOSE, PING, PONG, End, encode_close, encode_message
from .setups import on_awaited_answers, on_close_reasons, on_empty_closes, on_frames

#: Seconds: longer than a delivery on loopback, shorter than any timeout of a server.
AT_ONCE = 1.0


class Closing(Subject):
    """How connections end."""

    def test_close_from_the_client_is_answered_with_its_code(self, server: Server) -> None:
        with server.connect() as peer:
            assert peer.close(4000, "enough").close_code == 4000

    @on_close_reasons
    def test_handler_learns_the_clients_code_and_reason(self, server: Server) -> None:
        tag = server.tag()
        with server.connect(tag=tag) as peer:
            peer.close(4000, "enough 🧦")
        end = server.log.event("end", tag)
        assert (end["error"], end["code"], end["reason"]) == ("ConnectionClosed", 4000, "enough 🧦")

    @on_empty_closes
    def test_close_without_a_code_is_1005_to_the_handler(self, server: Server) -> None:
        tag = server.tag()
        with server.connect(tag=tag) as peer:
            # RFC 6455 5.5.1: the answer to an empty close frame may only be empty, or 1000.
            assert peer.close(None).close_code in (None, 1000)
        assert server.log.event("end", tag)["code"] == 1005

    def test_iteration_ends_at_a_close(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/iterate", tag=tag) as peer:
            assert peer.echo("hello") == "hello"
            peer.close(1000)
        assert server.log.event("end", tag)["error"] is None

    def test_close_from_the_handler_has_its_code_and_reason(self, server: Server) -> None:
        with server.connect("/close/4001?reason=so") as peer:
            frame = peer.answer_close()
            assert (frame.close_code, frame.close_reason) == (4001, "so")

    def test_handler_that_returns_closes_with_1000(self, server: Server) -> None:
        with server.connect("/return") as peer:
            assert peer.answer_close().close_code == 1000

    def test_server_ends_tcp_at_once_after_the_clients_close(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_close(1000)
            peer.read_close()
            tail = peer.read_until_eof()
            assert (tail.data, tail.end) == (b"", End.FIN)
            assert tail.seconds < AT_ONCE

    def test_server_ends_tcp_at_once_after_its_own_close(self, server: Server) -> None:
        with server.connect("/close/1000") as peer:
            peer.read_close()
            peer.send_close(1000)
            peer.expect_end(AT_ONCE)

    @on_frames
    def test_messages_before_the_close_are_answered_first(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_bytes(encode_message("one") + encode_message("two") + encode_close(1000))
            assert [peer.read(), peer.read()] == ["one", "two"]
            peer.read_close()
            peer.expect_end()

    def test_data_after_the_clients_close_changes_nothing(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_bytes(encode_close(1000) + encode_message("too late"))
            assert peer.read_frame().opcode == CLOSE
            # Unread bytes make the kernel send RST instead of FIN: both end the connection.
            assert peer.read_until_eof().data == b""

    @on_awaited_answers
    def test_messages_that_cross_the_servers_close_are_dropped(self, server: Server) -> None:
        with server.connect("/wait-then-close") as peer:
            peer.send("go")
            for number in range(50):
                peer.send(f"crossing {number}")
            assert peer.read_close().close_code == 4000
            peer.send_close(4000)
            peer.expect_end()

    def test_fin_without_a_close_frame_is_1006_to_the_handler(self, server: Server) -> None:
        tag = server.tag()
        with server.connect(tag=tag) as peer:
            assert peer.echo("hello") == "hello"
        assert server.log.event("end", tag)["code"] == 1006

    def test_half_closed_tcp_is_1006_and_ended_at_once(self, server: Server) -> None:
        tag = server.tag()
        with server.connect(tag=tag) as peer:
            assert peer.echo("hello") == "hello"
            peer.finish_sending()
            tail = peer.read_until_eof()
            assert tail.seconds < AT_ONCE
        assert server.log.event("end", tag)["code"] == 1006

    def test_rst_is_1006_to_the_handler(self, server: Server) -> None:
        tag = server.tag()
        peer = server.connect(tag=tag)
        assert peer.echo("hello") == "hello"
        peer.reset()
        assert server.log.event("end", tag)["code"] == 1006

    def test_ping_is_answered_with_its_payload(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_frame(PING, b"payload")
            frame = peer.read_opcode(PONG)
            assert frame.payload == b"payload"
            peer.close()

    def test_pong_nobody_asked_for_is_ignored(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_frame(PONG, b"unasked")
            assert peer.echo("hello") == "hello"
            peer.close()

    @on_frames
    def test_unmasked_frame_is_1002(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_bytes(b"\x81\x05hello")
            assert peer.read_close().close_code == 1002
            peer.send_close(1002)
            peer.expect_end()

    @on_frames
    def test_text_that_is_not_utf8_is_1007(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_frame(0x1, b"\xff\xfe")
            assert peer.read_close().close_code == 1007
            peer.send_close(1007)
            peer.expect_end()

    def test_http_goes_on_beside_connections_that_end(self, server: Server) -> None:
        """A server that waits for the end of one connection would delay the request."""
        with server.connect() as peer:
            peer.send_close()
            started = time.monotonic()
            assert server.get("/http").text == "http"
            assert time.monotonic() - started < AT_ONCE
            peer.read_close()
            peer.expect_end()

    @tracebacks(1)
    def test_handlers_traceback_is_in_the_log_once(self, server: Server) -> None:
        tag = server.tag()
        with server.connect("/raise", tag=tag) as peer:
            peer.read()
            peer.answer_close()
        server.log.find(rf"^RuntimeError: failed on purpose {tag}$")
