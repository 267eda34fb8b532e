"""The headers of frames (RFC 6455 section 5.2)."""

from __future__ import annotations

import inspect
import struct
from typing import TypeAlias

__all__ = ["BytesLike", "encode", "header"]

BytesLike: TypeAlias = "bytes | bytearray | memoryview"

# The first byte of a frame: FIN, RSV1 (compressed) and the opcode.
FIN = 0x80
RSV1 = 0x40
OPCODE = 0x0F
TEXT = FIN | 0x1
BINARY = FIN | 0x2
CLOSE = FIN | 0x8
PING = FIN | 0x9
PONG = FIN | 0xA
CONTROL = 0x08
# The second byte: whether the payload is masked, and its size or the size of its size.
MASKED = 0x80
TWO_BYTES = 126
EIGHT_BYTES = 127


def encode(data: str | BytesLike) -> tuple[int, BytesLike]:
    """Turn a message into the first byte of its frame and its payload.

    :raises TypeError: ``data`` is neither text nor bytes-like.
    """
    if isinstance(data, str):
        return TEXT, data.encode()
    if isinstance(data, (bytes, bytearray)):
        return BINARY, data
    if isinstance(data, memoryview):
        # A length in bytes, whatever the shape of the view was.
        return BINARY, data.cast("B") if data.contiguous else bytes(data)
    advice = "send_json() sends dictionaries and lists, and publish_json() publishes them"
    if isinstance(data, (int, float)):
        advice = f"send str({data!r}) as text, or {data!r} as JSON with send_json()"
    elif data is None:
        advice = "is a return missing where it comes from? send_json(None) sends null"
    elif inspect.isawaitable(data):
        advice = "await it, and send the result"
    raise TypeError(f"A message is str or bytes, not {type(data).__name__}: {advice}.")


def header(first: int, size: int, masked: int = 0) -> bytes:
    """Make the header of a frame, up to the masking key.

    :param first: its first byte.
    :param size: the size of its payload.
    :param masked: ``MASKED`` where a key follows.
    """
    if size < TWO_BYTES:
        return bytes((first, masked | size))
    if size < 2**16:
        return struct.pack("!BBH", first, masked | TWO_BYTES, size)
    return struct.pack("!BBQ", first, masked | EIGHT_BYTES, size)
