"""What a frame begins with (RFC 6455 section 5.2), and messages that many connections get."""

from __future__ import annotations

import struct
import zlib
from typing import TypeAlias

from .deflate import THRESHOLD, make_compressor

__all__ = ["BytesLike", "SharedMessage", "encode", "header"]

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
    raise TypeError(
        f"A message is str or bytes, not {type(data).__name__}: send_json() sends dictionaries "
        "and lists, and publish_json() publishes them."
    )


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


class SharedMessage:
    """A message that a server sends to many, whose frame is made once.

    :param first: the first byte of its frame: ``TEXT`` or ``BINARY``.
    :param payload: its payload.
    """

    __slots__ = ("_compressed", "first", "payload", "plain", "worth_deflating")

    def __init__(self, first: int, payload: BytesLike) -> None:
        self.first = first
        self.payload = payload
        #: The frame for connections without compression.
        self.plain = b"".join((header(first, len(payload)), payload))
        #: Whether connections with compression get another.
        self.worth_deflating = len(payload) >= THRESHOLD
        self._compressed: dict[int, bytes] = {}

    def compressed(self, bits: int) -> bytes:
        """Return the frame for connections with a window of ``2**bits`` bytes.

        It refers to nothing that was sent before it (RFC 7692 section 7.2.1).
        """
        frame = self._compressed.get(bits)
        if frame is None:
            compressor = make_compressor(bits)
            payload = compressor.compress(self.payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
            # Without the empty block at the end.
            size = len(payload) - 4
            frame = b"".join((header(self.first | RSV1, size), memoryview(payload)[:size]))
            self._compressed[bits] = frame
        return frame
