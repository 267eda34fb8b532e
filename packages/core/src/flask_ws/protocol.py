"""The WebSocket protocol after the handshake: bytes in, events out, and no socket in sight.

wsproto is the authority on what arrives (RFC 6455). In front of it stands the *fast lane*, for
what nearly every frame from a client is: a masked, final, uncompressed text or binary frame while
no message is open. Everything else, and everything that is wrong in such a frame's header, goes
to wsproto.
"""

from __future__ import annotations

import codecs
import os
import struct
import sys
from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

from wsproto import ConnectionType
from wsproto.connection import Connection as WSProtoConnection
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Event as WSProtoEvent
from wsproto.events import Ping as WSProtoPing
from wsproto.events import Pong as WSProtoPong

from .deflate import THRESHOLD, Deflate
from .frames import (
    BINARY,
    CLOSE,
    CONTROL,
    EIGHT_BYTES,
    FIN,
    MASKED,
    PING,
    PONG,
    RSV1,
    TEXT,
    TWO_BYTES,
    BytesLike,
    SharedMessage,
    encode,
    header,
)
from .masking import apply_mask

__all__ = [
    "BytesLike",
    "Close",
    "Event",
    "Ping",
    "Pong",
    "Protocol",
    "Violation",
]

#: The largest payload of a control frame, of which a close frame's code takes two (section 5.5).
MAX_CONTROL_PAYLOAD = 125
#: A payload of at least this size is not copied behind its header to be sent.
SEPARATE_PAYLOAD = 2**16
#: The memory that a frame gets before its payload comes; it doubles as the payload arrives, so
#: that a header alone, whatever it promises, costs no more than this.
FIRST_BUFFER = 2**16

#: How many buffers are kept for later frames, and how large ones, at the most.
SPARES = 4
LARGEST_SPARE = 2**20

#: Small fragments of a message are joined when there are so many of them: an object for each
#: takes more than ten times its two or three bytes.
MANY_PARTS = 1000

INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009

#: The headers of a server's small messages.
SMALL_HEADERS = {
    first: [header(first, size) for size in range(TWO_BYTES)] for first in (TEXT, BINARY)
}

_EXTENSION_FAULTS = {
    INVALID_DATA: "invalid compressed data",
    MESSAGE_TOO_BIG: "message too big",
}


@dataclass(frozen=True)
class Ping:
    """The peer has sent a ping; a pong with the same payload is due."""

    payload: bytes


@dataclass(frozen=True)
class Pong:
    """The peer has sent a pong."""

    payload: bytes


@dataclass(frozen=True)
class Close:
    """The peer has sent a close frame; the last event."""

    code: int
    reason: str


@dataclass(frozen=True)
class Violation:
    """The peer has broken the protocol or a limit, and the connection must fail; the last event.

    ``code`` and ``reason`` are for the close frame that tells the peer so.
    """

    code: int
    reason: str


#: What :meth:`Protocol.next_event` returns. A message is a plain ``str`` or ``bytes``.
Event: TypeAlias = "str | bytes | Ping | Pong | Close | Violation"


class Protocol:
    """One endpoint of an open WebSocket connection.

    Feed it by :meth:`receive_data`, or let the transport fill :meth:`get_buffer`; then take
    events from :meth:`next_event` until there is none. Receiving and sending share no state: one
    thread may do the one while another does the other.

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
        # Made for the first frame that needs it: many connections never see one.
        self._slow: _SlowLane | None = None
        self._ended = False

    # Receiving

    def receive_data(self, data: bytes) -> None:
        """Take in bytes from the peer."""
        if self.drained or self._position >= len(self._buffer):
            self._buffer = data
        else:
            self._buffer = b"".join((memoryview(self._buffer)[self._position :], data))
        self._position = 0
        self.drained = False

    def get_buffer(self) -> memoryview | None:
        """Return where the rest of a frame's payload goes, if one has begun.

        Bytes that a transport writes there, announced by :meth:`buffer_updated`, are not copied
        again. The view must not outlive that call. :meth:`receive_data` would do as well.
        """
        return self.partial.get_buffer() if self.partial is not None else None

    def buffer_updated(self, size: int) -> None:
        """Take in the ``size`` bytes that a transport has written to :meth:`get_buffer`."""
        if self.partial is not None:
            self.partial.filled += size
            self.drained = False

    def next_event(self) -> Event | None:
        """Return the next event, or ``None`` if more bytes must come first."""
        if not self._fast:
            return self._next_slow()
        if self.partial is not None:
            return self._next_partial(self.partial)
        buffer = self._buffer
        position = self._position
        received = len(buffer)
        if received - position < 2:
            return None
        first = buffer[position]
        second = buffer[position + 1]
        if (first != BINARY and first != TEXT) or second < MASKED:  # noqa: PLR1714
            return self._next_slow()
        size = second - MASKED
        start = position + 6
        if size >= TWO_BYTES:
            start += 2 if size == TWO_BYTES else 8
            # A size that is wrong is wrong before the mask has come.
            if start - 4 > received:
                return None
            size = int.from_bytes(buffer[position + 2 : start - 4], "big")
            if size < TWO_BYTES or (second == MASKED | EIGHT_BYTES and not 2**16 <= size < 2**63):
                # wsproto says what is wrong with it.
                return self._next_slow()
        end = start + size
        if end > received and start > received:
            return None
        if size > self._limit:
            return self._end(_too_big(size, self._limit))
        mask = buffer[start - 4 : start]
        if end > received:
            self.partial = PartialFrame(first == TEXT, mask, size)
            self._position = start
            return self._next_partial(self.partial)
        self._position = end
        self.drained = end == received
        payload = apply_mask(buffer[start:end], mask)
        if first == BINARY:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError as error:
            return self._end(Violation(INVALID_DATA, str(error)))

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
        return message

    def _next_slow(self) -> Event | None:
        if self._ended:
            return None
        if self._position >= len(self._buffer) and (self._slow is None or not self._slow.events):
            return None
        slow = self._slow
        if slow is None:
            slow = self._slow = _SlowLane(self._client, self._limit, self._deflate)
        while not slow.events:
            if self._position >= len(self._buffer):
                self._fast = False
                return None
            self._position += slow.feed(self._buffer, self._position)
        event = slow.events.popleft()
        if isinstance(event, (Close, Violation)):
            return self._end(event)
        self._fast = self._has_fast_lane and slow.between_messages
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


def _too_big(size: int, limit: int) -> Violation:
    return Violation(MESSAGE_TOO_BIG, f"message too big: {size} bytes, the limit is {limit}")


#: Buffers of large frames that have been read, for the next: the kernel takes longer to find that
#: much memory for a new one than to fill it.
_spares: list[bytearray] = []


def _take_spare(size: int) -> bytearray | None:
    if size <= FIRST_BUFFER:
        return None
    try:
        spare = _spares.pop()
    except IndexError:
        return None
    return spare if len(spare) >= size else None


def _give_spare(buffer: bytearray) -> None:
    if FIRST_BUFFER < len(buffer) <= LARGEST_SPARE and len(_spares) < SPARES:
        _spares.append(buffer)


class PartialFrame:
    """A data frame in the fast lane, of which a part has arrived."""

    __slots__ = ("buffer", "decoded", "decoder", "filled", "mask", "size", "text")

    def __init__(self, text: bool, mask: bytes, size: int) -> None:
        self.mask = mask
        self.size = size
        self.buffer = _take_spare(size) or bytearray(min(size, FIRST_BUFFER))
        self.filled = 0
        # Text is decoded as it comes, so that what is not UTF-8 fails at once.
        self.decoder = codecs.getincrementaldecoder("utf-8")() if text else None
        self.decoded = 0
        self.text: list[str] = []

    def get_buffer(self) -> memoryview:
        if self.filled == len(self.buffer):
            self.buffer.extend(bytes(min(self.filled, self.size - self.filled)))
        return memoryview(self.buffer)[self.filled : self.size]

    def add(self, data: memoryview) -> int:
        """Take what belongs to the frame; return how much that was."""
        size = min(len(data), self.size - self.filled)
        end = self.filled + size
        # Up to len(self.buffer) this fills it, past that it extends it.
        self.buffer[self.filled : end] = data[:size]
        self.filled = end
        return size

    def check(self) -> None:
        """Decode what has come of a text.

        :raises UnicodeDecodeError: it is not UTF-8.
        """
        self._decode(final=False)

    def finish(self) -> str | bytes:
        """Return the message.

        :raises UnicodeDecodeError: it is not UTF-8.
        """
        message: str | bytes
        if self.decoder is None:
            message = apply_mask(memoryview(self.buffer)[: self.size], self.mask)
        else:
            self._decode(final=True)
            message = "".join(self.text)
        _give_spare(self.buffer)
        return message

    def _decode(self, *, final: bool) -> None:
        if self.decoder is not None and (final or self.decoded < self.filled):
            turn = self.decoded % 4
            part = apply_mask(
                memoryview(self.buffer)[self.decoded : self.filled],
                self.mask[turn:] + self.mask[:turn],
            )
            self.decoded = self.filled
            self.text.append(self.decoder.decode(part, final))


class _SlowLane:
    """wsproto, fed frame by frame, so that the fast lane knows where the next frame begins."""

    def __init__(self, client: bool, limit: int, deflate: Deflate | None) -> None:
        self.wsproto = WSProtoConnection(
            ConnectionType.CLIENT if client else ConnectionType.SERVER,
            [] if deflate is None else [deflate],
        )
        self.limit = limit
        self.events: deque[Event] = deque()
        # The frame: its header so far, and how much of its payload is to come.
        self.header = bytearray()
        self.remaining = 0
        # The message: whether a frame of it is to come, its size by the headers of its frames,
        # its parts, and how many of them have not been joined yet.
        self.open = False
        self.size = 0
        self.parts: list[str] | list[bytes] = []
        self.loose = 0

    @property
    def between_messages(self) -> bool:
        """Whether the next byte begins a frame, and no message is open."""
        return not (self.open or self.remaining or self.header)

    def feed(self, buffer: bytes, position: int) -> int:
        """Give wsproto the next bytes of one frame's header or payload; return how many."""
        header = self.header
        wanted = self.remaining or _header_size(header) - len(header)
        chunk = buffer[position : position + wanted]
        begun = False
        if self.remaining:
            self.remaining -= len(chunk)
        else:
            header += chunk
            begun = len(header) > 1 and len(header) == _header_size(header)
        self.wsproto.receive_data(chunk)
        events = list(self.wsproto.events())
        # A header that wsproto objects to is not worth a look.
        if begun and not any(isinstance(event, CloseConnection) for event in events):
            self._begin_frame()
        if not any(isinstance(event, Violation) for event in self.events):
            for event in events:
                self._translate(event)
        return len(chunk)

    def _begin_frame(self) -> None:
        header = self.header
        first, size = header[0], header[1] & ~MASKED
        if size >= TWO_BYTES:
            size = int.from_bytes(header[2:4] if size == TWO_BYTES else header[2:10], "big")
        header.clear()
        self.remaining = size
        if first & CONTROL:
            return
        self.open = not first & FIN
        self.size += size
        if self.size > self.limit:
            self.events.append(_too_big(self.size, self.limit))

    def _translate(self, event: WSProtoEvent) -> None:
        if isinstance(event, (TextMessage, BytesMessage)):
            # Empty fragments are free to send: they must be free to hold.
            if event.data or event.message_finished:
                self.parts.append(event.data)  # type: ignore[arg-type]
                self.loose += 1
            if event.message_finished:
                self.events.append(_join(self.parts))
                self.parts = []
                self.size = self.loose = 0
            elif self.loose == MANY_PARTS:
                self.parts[-MANY_PARTS:] = [_join(self.parts[-MANY_PARTS:])]  # type: ignore[list-item]
                self.loose = 0
        elif isinstance(event, WSProtoPing):
            self.events.append(Ping(bytes(event.payload)))
        elif isinstance(event, WSProtoPong):
            self.events.append(Pong(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            code, reason = int(event.code), event.reason or ""
            if self.wsproto.state is ConnectionState.REMOTE_CLOSING:
                self.events.append(Close(code, reason))
            else:
                # wsproto says no more of a fault in an extension than that.
                reason = _EXTENSION_FAULTS.get(code, reason) if "extension" in reason else reason
                self.events.append(Violation(code, reason))


def _header_size(header: bytearray) -> int:
    """Tell a header's size, as far as its first bytes tell."""
    if len(header) < 2:
        return 2
    size = header[1] & ~MASKED
    extended = 2 if size == TWO_BYTES else 8 if size == EIGHT_BYTES else 0
    return 2 + extended + (4 if header[1] & MASKED else 0)


def _join(parts: list[str] | list[bytes]) -> str | bytes:
    if len(parts) == 1:
        return parts[0]
    return "".join(parts) if isinstance(parts[0], str) else b"".join(parts)
