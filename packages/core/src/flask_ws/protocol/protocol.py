"""The WebSocket protocol after the handshake: bytes in, events out, and no socket in sight.

wsproto is the authority on what arrives (RFC 6455). In front of it stands the *fast lane*, for
what nearly every frame from a client is: a masked, final text or binary frame while no message is
open. Everything else, and everything that is wrong in such a frame's header, goes to wsproto; and
so does a compressed frame that has not arrived whole.
"""

from __future__ import annotations

import os
import struct
import sys

from .deflate import FAULTS, THRESHOLD, Deflate
from .events import Close, Event, Violation, too_big
from .frames import (
    BINARY,
    CLOSE,
    EIGHT_BYTES,
    MASKED,
    OPCODE,
    PING,
    PONG,
    RSV1,
    TEXT,
    TWO_BYTES,
    BytesLike,
    encode,
    header,
)
from .masking import apply_mask
from .partial import PartialFrame
from .shared import SharedMessage
from .slow_lane import SlowLane

__all__ = ["Protocol"]

#: The largest payload of a control frame, of which a close frame's code takes two (section 5.5).
MAX_CONTROL_PAYLOAD = 125
#: A payload of at least this size is not copied behind its header to be sent.
SEPARATE_PAYLOAD = 2**16

INVALID_DATA = 1007

#: The first bytes of whole messages that are compressed.
COMPRESSED = (TEXT | RSV1, BINARY | RSV1)
#: The headers of a server's small messages.
SMALL_HEADERS = {
    first: [header(first, size) for size in range(TWO_BYTES)] for first in (TEXT, BINARY)
}


class Protocol:
    """One endpoint of an open WebSocket connection.

    Give bytes from the peer to :meth:`next_event`, and call it until there is no event. Where
    there is a ``partial`` frame, a transport may write them into its buffer instead, and tell
    :meth:`buffer_updated`. Receiving and sending share no state: one thread may do the one while
    another does the other.

    :param client: whether this endpoint is the client, which masks what it sends.
    :param max_message_size: the largest message accepted, in bytes, as received and after
        inflation; ``None`` for no limit.
    :param deflate: the connection's compression, if the handshake agreed on it.
    :param fast_lane: whether to use it; a client, whose frames come unmasked, has none.
    """

    __slots__ = (
        "_buffer",
        "_client",
        "_deflate",
        "_ended",
        "_fast",
        "_has_fast_lane",
        "_limit",
        "_position",
        "_slow",
        "drained",
        "partial",
    )

    def __init__(
        self,
        *,
        client: bool = False,
        max_message_size: int | None = None,
        deflate: Deflate | None = None,
        fast_lane: bool = True,
    ) -> None:
        self._client = client
        self._limit = sys.maxsize if max_message_size is None else max_message_size
        self._deflate = deflate
        # What has been received and not looked at: self._buffer[self._position:].
        self._buffer = b""
        self._position = 0
        #: Whether it is certain, without a look, that there is no event before more bytes come.
        self.drained = True
        self._has_fast_lane = fast_lane and not client
        # Whether the next byte begins a frame, and no message is open.
        self._fast = self._has_fast_lane
        #: The frame of the fast lane that has not arrived whole.
        self.partial: PartialFrame | None = None
        # Made for a frame that needs it, and gone when the next may be the fast lane's.
        self._slow: SlowLane | None = None
        self._ended = False

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Take in bytes from the peer, to be looked at later."""
        if self.drained or self._position >= len(self._buffer):
            self._buffer = data
        else:
            self._buffer = b"".join((memoryview(self._buffer)[self._position :], data))
        self._position = 0
        self.drained = False

    def buffer_updated(self, size: int) -> None:
        """Take in the ``size`` bytes that a transport has written to the buffer of ``partial``."""
        if self.partial is not None:
            self.partial.filled += size
            self.drained = False

    # All in one, because calls would cost more than the rest.
    def next_event(self, data: bytes = b"") -> Event | None:
        """Return the next event, or ``None`` if more bytes must come first.

        :param data: bytes from the peer, to take in before that.
        """
        if not self._fast:
            if data:
                self.receive_data(data)
            return self._next_slow() if self.partial is None else self._next_partial(self.partial)
        if data and self.drained:
            buffer, position = data, 0
        else:
            if data:
                self.receive_data(data)
            buffer, position = self._buffer, self._position
        received = len(buffer)
        if received - position < 2:
            self._keep(buffer, position)
            return None
        first = buffer[position]
        second = buffer[position + 1]
        if second < MASKED or (
            first != BINARY  # noqa: PLR1714 - the quickest way
            and first != TEXT
            and (self._deflate is None or first not in COMPRESSED)
        ):
            self._keep(buffer, position)
            return self._next_slow()
        size = second - MASKED
        start = position + 6
        if size >= TWO_BYTES:
            start += 2 if size == TWO_BYTES else 8
            # A size that is wrong is wrong before the mask has come.
            if start - 4 > received:
                self._keep(buffer, position)
                return None
            size = int.from_bytes(buffer[position + 2 : start - 4], "big")
            if size < TWO_BYTES or (second == MASKED | EIGHT_BYTES and not 2**16 <= size < 2**63):
                # wsproto says what is wrong with it.
                self._keep(buffer, position)
                return self._next_slow()
        end = start + size
        if end > received or size > self._limit:
            self._keep(buffer, position)
            return None if start > received else self._begin_partial(first, size, start)
        payload = apply_mask(buffer[start:end], buffer[start - 4 : start])
        if end == received:
            # An idle connection holds on to nothing.
            self.drained = True
            self._buffer = b""
            self._position = 0
        else:
            self._keep(buffer, end)
        if first == BINARY:
            return payload
        return self._finish(first, payload)

    def _finish(self, first: int, payload: bytes) -> Event:
        """Inflate and decode, as the first byte of a frame says."""
        if first & RSV1 and self._deflate is not None:
            inflated = self._deflate.inflate_message(payload)
            if isinstance(inflated, int):
                return self._end(Violation(int(inflated), FAULTS[inflated]))
            payload = inflated
        if first & OPCODE == BINARY & OPCODE:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError as error:
            return self._end(Violation(INVALID_DATA, str(error)))

    def _keep(self, buffer: bytes, position: int) -> None:
        """Keep what has been received and not looked at."""
        self._buffer = buffer
        self._position = position
        self.drained = False

    def _begin_partial(self, first: int, size: int, start: int) -> Event | None:
        """Begin with a frame whose header is there.

        :param first: its first byte.
        :param size: the size of its payload.
        :param start: where that begins.
        """
        if size > self._limit:
            return self._end(too_big(size, self._limit))
        if first & RSV1:
            # Inflated as it comes, so that no more of it is kept than the limit.
            return self._next_slow()
        mask = self._buffer[start - 4 : start]
        self._position = start
        self._fast = False
        self.partial = PartialFrame(first == TEXT, mask, size)
        return self._next_partial(self.partial)

    def _next_partial(self, partial: PartialFrame) -> Event | None:
        if self._position < len(self._buffer):
            self._position += partial.add(memoryview(self._buffer)[self._position :])
        try:
            if partial.filled < partial.size:
                partial.check()
                return None
            message = partial.finish()
        except UnicodeDecodeError as error:
            return self._end(Violation(INVALID_DATA, str(error)))
        self.partial = None
        self._fast = True
        return message

    def _next_slow(self) -> Event | None:
        if self._ended:
            return None
        if self._position >= len(self._buffer) and (self._slow is None or not self._slow.events):
            return None
        slow = self._slow
        if slow is None:
            slow = self._slow = SlowLane(self._client, self._limit, self._deflate)
        while not slow.events:
            if self._position >= len(self._buffer):
                self._fast = False
                return None
            self._position += slow.feed(self._buffer, self._position)
        event = slow.events.popleft()
        if isinstance(event, (Close, Violation)):
            return self._end(event)
        self._fast = self._has_fast_lane and slow.between_messages
        if self._fast:
            # It takes 3 KiB, and most connections need it for a pong now and then.
            self._slow = None
        return event

    def _end(self, event: Close | Violation) -> Event:
        self._ended = True
        self._fast = False
        self.partial = None
        return event

    # Sending

    def send_message(self, data: str | BytesLike) -> list[BytesLike]:
        """Make the frame of a message: ``str`` as text, bytes-like as binary.

        :param data: the message.
        :return: the buffers to send, in order.
        :raises TypeError: ``data`` is neither.
        """
        first, payload = (BINARY, data) if isinstance(data, bytes) else encode(data)
        if self._deflate is not None and len(payload) >= THRESHOLD:
            first, payload = first | RSV1, self._deflate.deflate(payload)
        elif not self._client and (size := len(payload)) < TWO_BYTES:
            # By far the most messages are small: without any further call.
            return [SMALL_HEADERS[first][size] + payload]
        return self._frame(first, payload)

    @property
    def deflates(self) -> bool:
        """Whether the handshake agreed on compression."""
        return self._deflate is not None

    def send_shared(self, message: SharedMessage) -> bytes:
        """Return the frame of a message that other connections get as well.

        What is sent after it refers to nothing that was sent before it: the peer's window has
        moved on.
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
        if code == 1005:
            return self._frame(CLOSE, b"")
        text = reason.encode()[: MAX_CONTROL_PAYLOAD - 2].decode(errors="ignore").encode()
        return self._frame(CLOSE, struct.pack("!H", code) + text)

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
