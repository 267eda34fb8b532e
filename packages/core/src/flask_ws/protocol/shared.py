"""A message that many connections get: its frames are made once."""

from __future__ import annotations

import zlib

from .deflate import THRESHOLD, make_compressor
from .frames import RSV1, BytesLike, header

__all__ = ["SharedMessage"]


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
