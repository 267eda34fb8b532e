"""Frames and handshakes for the load generators: raw sockets, nothing that could slow them down."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field

HOST = "127.0.0.1"
TIMEOUT = 30.0

# A fixed key has a fixed answer (RFC 6455, 1.3), so that checking it costs one comparison.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

CLOSE_NORMAL = (1000).to_bytes(2, "big")


class WrongReply(Exception):
    """The server answered something other than what was expected."""


def xor(payload: bytes, mask: bytes) -> bytes:
    """Mask a payload; as one long integer, as that is quick enough for frames prepared up front."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def _header(opcode: int, size: int, masked: bool, rsv1: bool) -> bytes:
    first = 0x80 | (0x40 if rsv1 else 0) | opcode
    bit = 0x80 if masked else 0
    if size < 126:
        return bytes((first, bit | size))
    if size < 65536:
        return bytes((first, bit | 126)) + size.to_bytes(2, "big")
    return bytes((first, bit | 127)) + size.to_bytes(8, "big")


def client_frame(
    opcode: int, payload: bytes, *, mask: bytes = b"\x37\xfa\x21\x3d", rsv1: bool = False
) -> bytes:
    return _header(opcode, len(payload), True, rsv1) + mask + xor(payload, mask)


def server_frame(opcode: int, payload: bytes, *, rsv1: bool = False) -> bytes:
    return _header(opcode, len(payload), False, rsv1) + payload


def parse_server_frame(data: bytes | bytearray) -> tuple[int, int, int] | None:
    """First byte, start and end of the payload of the frame that `data` starts with, if whole."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size & 0x80:
        raise WrongReply("the server masked a frame")
    if size == 126:
        start = 4
    elif size == 127:
        start = 10
    if len(data) < start:
        return None
    if start > 2:
        size = int.from_bytes(data[2:start], "big")
    return (data[0], start, start + size) if len(data) >= start + size else None


def handshake(port: int, path: str, extensions: str = "") -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {HOST}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    if extensions:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    return "\r\n".join([*lines, "", ""]).encode()


def check_head(head: bytes) -> None:
    """Raise unless the response head accepts the WebSocket."""
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if " 101 " not in status + " ":
        raise WrongReply(f"the handshake was answered {status!r}")
    if ACCEPT.encode() not in head:
        raise WrongReply("Sec-WebSocket-Accept is wrong")


@dataclass
class Connection:
    sock: socket.socket
    extensions: str
    buffered: bytes = field(default=b"")

    def receive_frame(self) -> tuple[int, bytes]:
        """The next whole frame, read with blocking calls: first byte and payload."""
        data = self.buffered
        while (frame := parse_server_frame(data)) is None:
            more = self.sock.recv(65536)
            if not more:
                raise WrongReply("the server closed the connection")
            data += more
        first, start, end = frame
        self.buffered = data[end:]
        return first, data[start:end]

    def receive_message(self) -> bytes:
        """The payload of the next data frame; pings before it are answered."""
        while True:
            first, payload = self.receive_frame()
            if first == 0x80 | PING:
                self.sock.sendall(client_frame(PONG, payload))
            elif first & 0x0F in (TEXT, BINARY):
                return payload
            else:
                raise WrongReply(f"expected a message, got {first:#x} {payload[:40]!r}")

    def expect(self, reply: bytes) -> None:
        """Read exactly `reply`, with blocking calls."""
        data = self.buffered
        while len(data) < len(reply):
            more = self.sock.recv(65536)
            if not more:
                raise WrongReply("the server closed the connection")
            data += more
        if not data.startswith(reply):
            raise WrongReply(f"expected {reply[:40]!r}, got {data[:40]!r}")
        self.buffered = data[len(reply) :]

    def close(self) -> None:
        self.sock.close()


def connect(port: int, path: str, extensions: str = "") -> Connection:
    """Open a WebSocket with blocking calls."""
    sock = socket.create_connection((HOST, port), timeout=TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(handshake(port, path, extensions))
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise WrongReply(f"the server closed the connection during the handshake: {data!r}")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    check_head(head)
    found = re.search(rb"(?im)^sec-websocket-extensions:[ \t]*(.*?)\r?$", head)
    return Connection(sock, found[1].decode() if found else "", rest)
