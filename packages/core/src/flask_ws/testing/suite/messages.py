"""Messages arrive as they were sent."""

from __future__ import annotations

import pytest
import websocket
from websockets.sync.client import ClientConnection, connect, unix_connect

from .base import Subject
from .process import Server
from .raw import encode_message
from .shared_tls import SharedTLSSocket

SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_000_000)
TEXT = "naïve 🧦🚀 — Ω"


def make_message(size: int) -> bytes:
    """Bytes without a period that a frame's length could hide."""
    return bytes((number * 7 + number // 251) % 256 for number in range(size))


def connect_websockets(server: Server, path: str) -> ClientConnection:
    """Open a connection with the client of the package websockets."""
    url = server.url(path, server.tag())
    if server.setup.unix:
        return unix_connect(server.bind.removeprefix("unix:"), uri=url, close_timeout=5)
    context = server.context()
    if context is not None:
        # Its client reads in a separate thread.
        context.sslsocket_class = SharedTLSSocket
    return connect(url, sock=server.dial_plain(), ssl=context, close_timeout=5)


class Messages(Subject):
    """Messages arrive as they were sent."""

    @pytest.mark.parametrize("size", SIZES)
    def test_binary_message_comes_back(self, server: Server, size: int) -> None:
        message = make_message(size)
        with server.connect() as peer:
            assert peer.echo(message) == message
            peer.close()

    @pytest.mark.parametrize("size", SIZES)
    def test_text_message_comes_back(self, server: Server, size: int) -> None:
        message = "x" * size
        with server.connect() as peer:
            assert peer.echo(message) == message
            peer.close()

    def test_text_with_emoji_comes_back(self, server: Server) -> None:
        with server.connect() as peer:
            assert peer.echo(TEXT) == TEXT
            peer.close()

    def test_many_messages_in_one_segment_come_back_in_order(self, server: Server) -> None:
        messages = [f"message {number}" for number in range(200)]
        with server.connect() as peer:
            peer.send_bytes(b"".join(map(encode_message, messages)))
            assert [peer.read() for _ in messages] == messages
            peer.close()

    def test_client_of_websockets(self, server: Server) -> None:
        with connect_websockets(server, "/echo") as client:
            for message in (TEXT, make_message(70_000), "", b""):
                client.send(message)
                assert client.recv(timeout=5) == message
        assert client.protocol.close_code == 1000

    def test_client_of_websocket_client(self, server: Server) -> None:
        tag = server.tag()
        sock = server.dial().sock
        client = websocket.create_connection(server.url("/echo", tag), socket=sock, timeout=5)
        try:
            client.send(TEXT)
            assert client.recv() == TEXT
            for size in (0, 70_000):
                client.send_binary(make_message(size))
                assert client.recv() == make_message(size)
        finally:
            client.close(timeout=5)
