"""The opening handshake and its refusals, on the wire."""

from __future__ import annotations

import json
import time

from .base import Subject
from .process import Server
from .raw import (
    BINARY,
    TEXT,
    Header,
    Response,
    build_request,
    encode_frame,
    encode_message,
    handshake_headers,
    make_accept,
)
from .setups import on_accept_headers, on_denials, on_early_frames, on_frames, on_keep_alive

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def ask(
    server: Server,
    headers: list[Header],
    *,
    target: str = "/echo",
    method: str = "GET",
    body: bytes = b"",
) -> Response:
    """The response to a request that is expected to be refused."""
    with server.dial() as peer:
        peer.send_request(target, method=method, headers=headers, body=body)
        response = peer.read_head()
        assert response.status != 101, response
        return response


class Handshake(Subject):
    """The opening handshake, and its refusals."""

    @on_early_frames
    def test_half_a_frame_in_the_segment_of_the_handshake_is_kept(self, server: Server) -> None:
        frame = encode_frame(BINARY, bytes(range(256)))
        with server.connect(early=frame[:100]) as peer:
            peer.send_bytes(frame[100:])
            assert peer.read() == bytes(range(256))
            peer.close()

    @on_early_frames
    def test_much_data_in_the_segment_of_the_handshake_is_kept(self, server: Server) -> None:
        # More than a server's buffer for the request head.
        messages = [bytes([number]) * 3000 for number in range(20)]
        with server.connect(early=b"".join(map(encode_message, messages))) as peer:
            assert [peer.read() for _ in messages] == messages
            peer.close()

    def test_handshake_sent_byte_by_byte_is_answered(self, server: Server) -> None:
        tag = server.tag()
        request = build_request(
            server.target("/echo", tag), host=server.host, headers=handshake_headers(KEY)
        )
        with server.dial() as peer:
            for byte in request:
                peer.send_bytes(bytes([byte]))
                # Long enough for the kernel to deliver it separately.
                time.sleep(0.0003)
            peer.read_upgrade(KEY)
            server.opened.append(tag)
            assert peer.echo("hello") == "hello"
            peer.close()

    @on_keep_alive
    def test_upgrade_follows_a_request_on_one_connection(self, server: Server) -> None:
        tag = server.tag()
        with server.dial() as peer:
            for _ in range(2):
                peer.send_request("/http")
                assert peer.read_response().text == "http"
            peer.upgrade(server.target("/echo", tag))
            server.opened.append(tag)
            assert peer.echo("hello") == "hello"
            peer.close()

    @on_keep_alive
    @on_frames
    def test_connection_lives_on_after_a_refusal(self, server: Server) -> None:
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(KEY, version="8"))
            assert peer.read_response().status == 426
            peer.send_request("/http")
            assert peer.read_response().text == "http"

    def test_connection_header_of_firefox_is_understood(self, server: Server) -> None:
        tag = server.tag()
        with server.dial() as peer:
            peer.upgrade(server.target("/echo", tag), connection="keep-alive, Upgrade")
            server.opened.append(tag)
            assert peer.echo("hello") == "hello"
            peer.close()

    def test_accept_is_the_one_of_the_rfc(self, server: Server) -> None:
        assert make_accept(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        tag = server.tag()
        with server.dial() as peer:
            peer.send_request(server.target("/echo", tag), headers=handshake_headers(KEY))
            peer.read_upgrade(KEY)
            server.opened.append(tag)
            peer.close()

    def test_handler_sees_the_request(self, server: Server) -> None:
        headers = [("Cookie", "flavour=plain"), ("X-Mine", "1")]
        with server.connect("/headers", headers=headers) as peer:
            seen = json.loads(peer.read())
            assert seen["cookies"] == {"flavour": "plain"}
            assert seen["headers"]["x-mine"] == "1"
            assert seen["visits"] == 1
            assert seen["word"] == "from before_request"
            peer.answer_close()

    @on_accept_headers
    def test_101_has_flasks_headers(self, server: Server) -> None:
        with server.connect("/headers") as peer:
            peer.read()
            assert peer.response is not None
            assert peer.response.get("X-Marked") == "after_request"
            cookie = peer.response.get("Set-Cookie")
            assert cookie is not None
            peer.answer_close()
        session = cookie.split(";")[0]
        with server.connect("/headers", headers=[("Cookie", session)]) as peer:
            assert json.loads(peer.read())["visits"] == 2
            peer.answer_close()

    def test_101_has_nothing_that_belongs_to_a_body(self, server: Server) -> None:
        with server.connect() as peer:
            assert peer.response is not None
            names = {name.lower() for name, _ in peer.response.headers}
            assert not names & {"content-length", "content-type", "transfer-encoding"}
            peer.close()

    def test_first_of_the_clients_subprotocols_that_is_offered_is_chosen(
        self, server: Server
    ) -> None:
        offers = [("Sec-WebSocket-Protocol", "chat.v0, chat.v1, chat.v2")]
        with server.connect("/subprotocols", headers=offers) as peer:
            assert peer.response is not None
            assert peer.response.get("Sec-WebSocket-Protocol") == "chat.v1"
            peer.close()

    def test_http_and_websocket_live_on_one_url(self, server: Server) -> None:
        assert server.get("/both").text == "http"
        with server.connect("/both") as peer:
            assert peer.echo("hello") == "hello"
            peer.close()

    @on_frames
    def test_post_is_refused(self, server: Server) -> None:
        headers = [*handshake_headers(KEY), ("Content-Length", "0")]
        assert ask(server, headers, method="POST").status in (400, 405)

    @on_frames
    def test_handshake_with_a_body_is_refused(self, server: Server) -> None:
        headers = [*handshake_headers(KEY), ("Content-Length", "4")]
        assert ask(server, headers, body=b"body").status == 400

    @on_frames
    def test_handshake_with_a_chunked_body_is_refused(self, server: Server) -> None:
        headers = [*handshake_headers(KEY), ("Transfer-Encoding", "chunked")]
        assert ask(server, headers, body=b"4\r\nbody\r\n0\r\n\r\n").status == 400

    def test_plain_get_of_a_websocket_route_is_refused(self, server: Server) -> None:
        assert server.get("/echo").status in (400, 426)

    def test_foreign_origin_is_refused(self, server: Server) -> None:
        headers = handshake_headers(KEY, extra=[("Origin", "https://evil.example")])
        assert ask(server, headers).status == 403

    @on_denials
    def test_abort_in_before_request_is_an_http_response(self, server: Server) -> None:
        assert ask(server, handshake_headers(KEY), target="/forbidden").status == 401

    @on_denials
    def test_unknown_path_is_not_found(self, server: Server) -> None:
        assert ask(server, handshake_headers(KEY), target="/nowhere").status == 404

    def test_fragmented_message_after_the_handshake_is_joined(self, server: Server) -> None:
        with server.connect() as peer:
            peer.send_bytes(
                encode_frame(TEXT, b"one ", fin=False)
                + encode_frame(0, b"two ", fin=False)
                + encode_frame(0, b"three")
            )
            assert peer.read() == "one two three"
            peer.close()
