"""Messages arrive as they were sent."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time

import pytest
import websocket
import websockets.sync.client
from tests.support.raw import Peer, encode_message
from tests.support.server import Server, wait_until

SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_000_000)
TEXT = "naïve 🧦🚀 — Ω"


def make_message(size: int) -> bytes:
    """Bytes without a period that a frame's length could hide."""
    return bytes((number * 7 + number // 251) % 256 for number in range(size))


def unread(sock: socket.socket) -> int:
    """How many bytes the kernel holds for us."""
    (size,) = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))
    return int(size)


def await_full(peer: Peer) -> None:
    """Wait until no more bytes come, because nobody reads them."""
    seen: list[int] = []

    def is_stuck() -> bool:
        seen.append(unread(peer.sock))
        return len(seen) > 10 and seen[-1] > 0 and len(set(seen[-10:])) == 1

    wait_until(is_stuck, every=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_binary_message_comes_back(server: Server, size: int) -> None:
    message = make_message(size)
    with server.connect() as peer:
        assert peer.echo(message) == message
        peer.close()


@pytest.mark.parametrize("size", SIZES)
def test_text_message_comes_back(server: Server, size: int) -> None:
    message = "x" * size
    with server.connect() as peer:
        assert peer.echo(message) == message
        peer.close()


def test_text_with_emoji_comes_back(server: Server) -> None:
    with server.connect() as peer:
        assert peer.echo(TEXT) == TEXT
        peer.close()


def test_many_messages_in_one_segment_come_back_in_order(server: Server) -> None:
    messages = [f"message {number}" for number in range(200)]
    with server.connect() as peer:
        peer.send_bytes(b"".join(map(encode_message, messages)))
        assert [peer.read() for _ in messages] == messages
        peer.close()


def test_messages_sent_from_many_threads_arrive_whole(server: Server) -> None:
    senders, number = 8, 25
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
        expected = {
            sender: [
                size
                for message in range(number)
                if (size := (sender * 7919 + message * 104729) % 70000)
            ]
            for sender in range(senders)
        }
        assert arrived == expected
        assert empty == senders * number - sum(map(len, expected.values()))
        peer.send("done")
        peer.answer_close()


def test_send_to_a_slow_reader_is_finished(server: Server) -> None:
    size = 8_000_000 // 256 * 256
    with server.connect(f"/big/{size}", receive_buffer=65536) as peer:
        if not server.setup.tls:
            await_full(peer)
        started = time.monotonic()
        assert peer.read() == bytes(range(256)) * (size // 256)
        assert peer.read() == "end"
        assert time.monotonic() - started < 8
        peer.close()


def test_client_of_websockets(server: Server) -> None:
    tag = server.tag()
    sock = server.dial_plain()
    with websockets.sync.client.connect(
        server.url("/echo", tag), sock=sock, ssl=server.context(), close_timeout=5
    ) as client:
        for message in (TEXT, make_message(70_000), "", b""):
            client.send(message)
            assert client.recv(timeout=5) == message
    assert client.close_code == 1000


def test_client_of_websocket_client(server: Server) -> None:
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
