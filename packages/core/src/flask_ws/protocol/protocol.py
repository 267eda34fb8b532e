"""The WebSocket protocol after the handshake: bytes in, events out, without a socket."""

from __future__ import annotations

import os

from .control import MAX_CONTROL_PAYLOAD, write_close
from .deflate import THRESHOLD
from .frames import (
    BINARY,
    CLOSE,
    MASKED,
    PING,
    PONG,
    RSV1,
    TEXT,
    TWO_BYTES,
    BytesLike,
    encode,
    header,
)
from .incoming import Incoming
from .masking import apply_mask
from .shared import SharedMessage

__all__ = ["Protocol"]

#: A payload of at least this size is not copied behind its header to be sent.
SEPARATE_PAYLOAD = 2**16

#: The headers of a server's small messages, by size.
TEXT_HEADERS = [header(TEXT, size) for size in range(TWO_BYTES)]
BINARY_HEADERS = [header(BINARY, size) for size in range(TWO_BYTES)]
SMALL_HEADERS = {TEXT: TEXT_HEADERS, BINARY: BINARY_HEADERS}


class Protocol(Incoming):
    """One endpoint of an open WebSocket connection.

    Give bytes from the peer to :meth:`next_event`, and call it until there is no event. Where
    there is a ``partial`` frame, a transport may write them into its buffer instead, and tell
    :meth:`buffer_updated`. Receiving and sending share no state: one thread may receive while
    another sends.

    :param client: whether this endpoint is the client, which masks what it sends.
    :param max_message_size: the largest message accepted, in bytes, as received and after
        inflation; ``None`` for no limit.
    :param deflate: the connection's compression, if the handshake agreed on it.
    :param fast_lane: whether to use it; a client, whose frames come unmasked, has none.
    """

    __slots__ = ()

    def send_message(self, data: str | BytesLike) -> list[BytesLike]:
        """Make the frame of a message: ``str`` as text, bytes-like as binary.

        :param data: the message.
        :return: the buffers to send, in order.
        :raises TypeError: ``data`` is neither.
        """
        # Most messages are small texts or bytes, and each further call would cost as much as this.
        first: int
        payload: BytesLike
        if type(data) is str:
            first, payload = TEXT, data.encode()
        elif type(data) is bytes:
            first, payload = BINARY, data
        else:
            first, payload = encode(data)
        if self._deflate is not None and len(payload) >= THRESHOLD:
            first, payload = first | RSV1, self._deflate.deflate(payload)
        elif not self._client and (size := len(payload)) < TWO_BYTES:
            return [SMALL_HEADERS[first][size] + payload]
        return self._frame(first, payload)

    def small_frame(self, data: str | BytesLike) -> bytes:
        """Make the frame of a small message, as most are: what :meth:`send_message` makes, quicker.

        :param data: the message.
        :return: nothing where only :meth:`send_message` can make it.
        """
        # Too small to be compressed.
        if type(data) is bytes:
            if len(data) < TWO_BYTES and not self._client:
                return BINARY_HEADERS[len(data)] + data
        elif type(data) is str and len(data) < TWO_BYTES and not self._client:
            payload = data.encode()
            if len(payload) < TWO_BYTES:
                return TEXT_HEADERS[len(payload)] + payload
        return b""

    @property
    def deflates(self) -> bool:
        """Whether the handshake agreed on compression."""
        return self._deflate is not None

    def send_shared(self, message: SharedMessage) -> bytes:
        """Return the frame of a message that other connections get as well.

        Compression starts anew after it: the peer's window then holds data that this connection's
        compressor has not seen.
        """
        deflate = self._deflate
        if deflate is None or not message.worth_deflating:
            return message.plain
        return message.compressed(deflate.start_anew())

    def send_ping(self, payload: bytes = b"") -> list[BytesLike]:
        """Make a ping frame (section 5.5.2).

        :raises ValueError: ``payload`` has more than 125 bytes.
        """
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"A ping carries up to 125 bytes, not {len(payload)}.")
        return self._frame(PING, payload)

    def send_pong(self, payload: bytes = b"") -> list[BytesLike]:
        """Make a pong frame (section 5.5.3)."""
        return self._frame(PONG, payload)

    def send_close(self, code: int, reason: str = "") -> list[BytesLike]:
        """Make a close frame (section 5.5.1).

        :param code: the close code; 1005 makes a frame without one.
        :param reason: cut to the 123 bytes that a close frame has room for.
        """
        return self._frame(CLOSE, write_close(code, reason))

    def _frame(self, first: int, payload: BytesLike) -> list[BytesLike]:
        size = len(payload)
        masked = MASKED if self._client else 0
        start = header(first, size, masked)
        if masked:
            # Section 5.3: a fresh key, from a strong source, for each frame.
            key = os.urandom(4)
            start += key
            payload = apply_mask(payload, key)
        if size < SEPARATE_PAYLOAD:
            return [start + payload]
        return [start, payload]
