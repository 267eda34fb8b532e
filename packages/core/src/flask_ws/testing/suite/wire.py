"""What goes over the wire, valid or not: frames, requests and responses.

It uses nothing of flask_ws, and checks nothing.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

# A fixed key: what a test sends is the same bytes on every run.
MASK = b"\x37\xfa\x21\x3d"

Header = tuple[str, str]


def apply_mask(data: bytes, mask: bytes) -> bytes:
    """XOR as one big integer: a megabyte takes milliseconds."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def encode_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
) -> bytes:
    """One frame, valid or not: nothing is checked."""
    first = (0x80 if fin else 0) | (rsv << 4) | opcode
    masked = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask is None:
        return head + payload
    return head + mask + apply_mask(payload, mask)


def encode_close(code: int | None, reason: str = "") -> bytes:
    body = b"" if code is None else struct.pack("!H", code) + reason.encode()
    return encode_frame(CLOSE, body)


def encode_message(message: str | bytes) -> bytes:
    if isinstance(message, str):
        return encode_frame(TEXT, message.encode())
    return encode_frame(BINARY, message)


@dataclass(frozen=True)
class Frame:
    """A frame as it was received."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def close_code(self) -> int | None:
        assert self.opcode == CLOSE, f"not a close frame: {self!r}"
        return int.from_bytes(self.payload[:2], "big") if self.payload else None

    @property
    def close_reason(self) -> str:
        assert self.opcode == CLOSE, f"not a close frame: {self!r}"
        return self.payload[2:].decode()

    def __repr__(self) -> str:
        shown = self.payload if len(self.payload) < 60 else self.payload[:60] + b"..."
        return f"Frame({self.opcode:#x}, {shown!r}, {len(self.payload)} B, fin={self.fin})"


@dataclass(frozen=True)
class Response:
    """An HTTP response as it was received."""

    status: int
    reason: str
    headers: tuple[Header, ...]
    body: bytes = b""

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.get_all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


def make_key() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def make_accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + ACCEPT_GUID).digest()).decode()


def build_request(
    target: str,
    *,
    method: str = "GET",
    host: str = "localhost",
    headers: Iterable[Header] = (),
    body: bytes = b"",
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def handshake_headers(
    key: str | None,
    *,
    version: str | None = "13",
    connection: str = "Upgrade",
    upgrade: str = "websocket",
    extra: Iterable[Header] = (),
) -> list[Header]:
    """The opening handshake's headers; None leaves one out."""
    headers = [("Connection", connection), ("Upgrade", upgrade)]
    if key is not None:
        headers.append(("Sec-WebSocket-Key", key))
    if version is not None:
        headers.append(("Sec-WebSocket-Version", version))
    return [*headers, *extra]
