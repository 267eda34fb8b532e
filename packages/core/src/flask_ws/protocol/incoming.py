"""Receiving: bytes in, events out.

Valid frames are read here, by the *fast lane*. wsproto is the authority on the rest (RFC 6455): it
judges invalid frames, and reads all frames at a client, where they are not masked. Tests compare
the two on every kind of stream.
"""

from __future__ import annotations

import sys
from collections.abc import Container

from .close_codes import INVALID_DATA
from .control import read_control
from .deflate import FAULTS, Deflate
from .events import PROGRESS, Close, Event, Violation, too_big
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
)
from .masking import apply_mask
from .partial import GIVEN_UP, Meter, PartialFrame, PartialMessage
from .slow_lane import SlowLane

__all__ = ["Incoming"]


#: The first bytes of whole messages that are compressed.
COMPRESSED = (TEXT | RSV1, BINARY | RSV1)
#: The first bytes of frames between messages, without compression and with it; and of frames while
#: a message is open.
PLAIN_FIRSTS = frozenset({TEXT, BINARY, TEXT & ~FIN, BINARY & ~FIN, PING, PONG, CLOSE})
COMPRESSED_FIRSTS = PLAIN_FIRSTS | {first | RSV1 for first in PLAIN_FIRSTS if not first & CONTROL}
LATER_FIRSTS = frozenset({0, FIN, PING, PONG, CLOSE})
#: After so many fragments the caller gets to know of them: it may have others to serve.
FRAGMENTS = 8
#: In place of the payload's size in an invalid header.
WRONG = -1
#: Where a small frame has its mask, and its payload.
FIRST_MASK, AFTER_MASK = slice(2, 6), slice(6, None)


class Incoming:
    """The half of an endpoint that receives; see :class:`.protocol.Protocol`.

    :param client: whether this endpoint is the client.
    :param max_message_size: the largest message accepted, in bytes; ``None`` for no limit.
    :param deflate: the connection's compression, if the handshake agreed on it.
    :param fast_lane: whether to use it; a client has none.
    """

    __slots__ = (
        "_buffer",
        "_client",
        "_deflate",
        "_ended",
        "_fast",
        "_firsts",
        "_has_fast_lane",
        "_limit",
        "_position",
        "_slow",
        "_small_limit",
        "drained",
        "meter",
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
        self._small_limit = min(self._limit, TWO_BYTES - 1)
        self._deflate = deflate
        self._firsts = PLAIN_FIRSTS if deflate is None else COMPRESSED_FIRSTS
        # What has been received and not parsed: self._buffer[self._position:].
        self._buffer = b""
        self._position = 0
        #: Whether it is certain that there is no event before more bytes arrive.
        self.drained = True
        self._has_fast_lane = fast_lane and not client
        # Whether the next byte begins a frame, and no message is open.
        self._fast = self._has_fast_lane
        #: The message of which only a part has arrived.
        self.partial: PartialFrame | PartialMessage | None = None
        #: Called as a :class:`.PartialMessage` grows; ``False`` drops it.
        self.meter: Meter | None = None
        # Created for a client, and for an invalid frame.
        self._slow: SlowLane | None = None
        self._ended = False

    @property
    def held(self) -> int:
        """Bytes of memory that unparsed data and unfinished messages take."""
        parts = (self.partial, self._slow)
        return len(self._buffer) + sum(part.held for part in parts if part is not None)

    def receive_data(self, data: bytes) -> None:
        """Add bytes from the peer, to be parsed later."""
        if self.drained or self._position >= len(self._buffer):
            self._buffer = data
        else:
            self._buffer = b"".join((memoryview(self._buffer)[self._position :], data))
        self._position = 0
        self.drained = False

    def buffer_updated(self, size: int) -> None:
        """Count the ``size`` bytes that a transport has written to the buffer of ``partial``."""
        if isinstance(self.partial, PartialFrame):
            self.partial.filled += size
            self.drained = False

    # One long function, because calls would cost more than the rest.
    def next_event(  # noqa: C901
        self, data: bytes = b""
    ) -> Event | None:
        """Return the next event, or ``None`` if more bytes must come first.

        :param data: bytes from the peer, to take in before that.
        """
        if not self._fast:
            if data:
                self.receive_data(data)
            return self._next_piece()
        if data and self.drained:
            size = len(data) - 6
            if 0 <= size <= self._small_limit and data[1] == size + MASKED:
                # A small message that has arrived alone, as most do: what follows, in fewer steps.
                first = data[0]
                if first == BINARY:
                    return apply_mask(data[AFTER_MASK], data[FIRST_MASK])
                if first == TEXT:
                    try:
                        return apply_mask(data[AFTER_MASK], data[FIRST_MASK]).decode()
                    except UnicodeDecodeError as error:
                        return self._end(Violation(INVALID_DATA, str(error)))
            buffer, position = data, 0
        else:
            if data:
                self.receive_data(data)
            buffer, position = self._buffer, self._position
        received = len(buffer)
        if received - position < 2:
            return self._wait(buffer, position)
        first = buffer[position]
        second = buffer[position + 1]
        if second < MASKED or (
            first != BINARY  # noqa: PLR1714 - the quickest way
            and first != TEXT
            and (self._deflate is None or first not in COMPRESSED)
        ):
            self._keep(buffer, position)
            return self._next_piece()
        size = second - MASKED
        start = position + 6
        if size >= TWO_BYTES:
            start += 2 if size == TWO_BYTES else 8
            # An invalid size is found before the mask has arrived.
            if start - 4 > received:
                return self._wait(buffer, position)
            size = int.from_bytes(buffer[position + 2 : start - 4], "big")
            if size < TWO_BYTES or (second == MASKED | EIGHT_BYTES and not 2**16 <= size < 2**63):
                self._keep(buffer, position)
                return self._next_slow()
        end = start + size
        if end > received or size > self._limit:
            if start > received:
                return self._wait(buffer, position)
            self._keep(buffer, position)
            return self._begin_partial(first, size, start)
        payload = apply_mask(buffer[start:end], buffer[start - 4 : start])
        if end == received:
            if not self.drained:
                # An idle connection keeps no buffer.
                self.drained = True
                self._buffer = b""
                self._position = 0
        else:
            self._keep(buffer, end)
        if first == BINARY:
            return payload
        if first != TEXT and self._deflate is not None:
            inflated = self._deflate.inflate_message(payload)
            if isinstance(inflated, int):
                return self._end(Violation(int(inflated), FAULTS[inflated]))
            if first & ~RSV1 == BINARY:
                return inflated
            payload = inflated
        try:
            return payload.decode()
        except UnicodeDecodeError as error:
            return self._end(Violation(INVALID_DATA, str(error)))

    # What has been received and not parsed

    def _keep(self, buffer: bytes, position: int) -> None:
        """Keep it: there may be an event in it."""
        self._buffer = buffer
        self._position = position
        self.drained = False

    def _wait(self, buffer: bytes, position: int) -> Event | None:
        """Keep it from ``position`` on until more arrives: there is no event."""
        self._buffer = buffer[position:]
        self._position = 0
        self.drained = not self._buffer
        return None

    def _advance(self, position: int) -> None:
        """Mark it as read up to a position."""
        if position == len(self._buffer):
            self._buffer = b""
            self._position = 0
            self.drained = True
        else:
            self._position = position

    # Messages in one frame that has not arrived whole

    def _begin_partial(self, first: int, size: int, start: int) -> Event | None:
        """Begin a frame whose header has arrived.

        :param first: its first byte.
        :param size: the size of its payload.
        :param start: where that begins.
        """
        if size > self._limit:
            return self._end(too_big(size, self._limit))
        if first & RSV1:
            # Inflated as it arrives, so that no more of it is kept than the limit.
            return self._next_piece()
        mask = self._buffer[start - 4 : start]
        self._position = start
        self._fast = False
        self.partial = PartialFrame(first == TEXT, mask, size)
        return self._next_partial(self.partial)

    def _next_partial(self, partial: PartialFrame) -> Event | None:
        if self._position < len(self._buffer):
            added = partial.add(memoryview(self._buffer)[self._position :])
            self._advance(self._position + added)
        try:
            if partial.filled < partial.size:
                partial.check()
                return self._wait(self._buffer, self._position)
            message = partial.finish()
        except UnicodeDecodeError as error:
            return self._end(Violation(INVALID_DATA, str(error)))
        self.partial = None
        self._fast = True
        return message

    # Fragments, compressed messages that have not arrived whole, and control frames

    def _next_piece(self) -> Event | None:
        """Return the next event, if it is not a message that has arrived whole in one frame."""
        fragments = 0
        while not self._ended:
            if self._slow is not None or not self._has_fast_lane:
                return self._next_slow()
            message = self.partial
            if isinstance(message, PartialFrame):
                return self._next_partial(message)
            if message is None or not message.remaining:
                allowed = self._firsts if message is None else LATER_FIRSTS
                header = read_header(self._buffer, self._position, allowed)
                if header is None:
                    return self._wait(self._buffer, self._position)
                first, start, size = header
                if size == WRONG:
                    return self._next_slow()
                if first & CONTROL:
                    return self._read_control(first, start, start + size)
                if message is None:
                    message = self.partial = PartialMessage(first, self._deflate, self.meter)
                    self._fast = False
                message.begin_frame(first >= FIN, size, self._buffer[start - 4 : start])
                if message.size > self._limit:
                    return self._end(too_big(message.size, self._limit))
                self._advance(start)
            elif self.drained:
                return None
            event = self._read_payload(message)
            if event is not None:
                return event
            fragments += 1
            if fragments == FRAGMENTS and not self.drained:
                return PROGRESS
        return self._wait(b"", 0)

    def _read_control(self, first: int, start: int, end: int) -> Event | None:
        """Read a control frame.

        :param first: its first byte.
        :param start: where its payload begins.
        :param end: where that ends.
        """
        buffer = self._buffer
        if end > len(buffer):
            return self._wait(buffer, self._position)
        event = read_control(first, apply_mask(buffer[start:end], buffer[start - 4 : start]))
        if event is None:
            return self._next_slow()
        self._advance(end)
        return self._end(event) if isinstance(event, Close) else event

    def _read_payload(self, message: PartialMessage) -> Event | None:
        """Read what has arrived of a frame's payload; return the message if that is its end."""
        start = self._position
        end = min(len(self._buffer), start + message.remaining)
        fault = 0
        try:
            if end > start:
                fault = message.add(self._buffer[start:end])
                self._advance(end)
            if not fault and message.final and not message.remaining:
                fault = message.end()
                if not fault:
                    self.partial = None
                    self._fast = True
                    return message.finish()
        except UnicodeDecodeError as error:
            return self._end(Violation(INVALID_DATA, str(error)))
        if fault == GIVEN_UP:
            return self.give_up()
        return self._end(Violation(fault, FAULTS[fault])) if fault else None

    # What wsproto reads

    def _next_slow(self) -> Event | None:
        self._fast = False
        slow = self._slow
        if slow is None:
            opened = self.partial.first if isinstance(self.partial, PartialMessage) else None
            slow = self._slow = SlowLane(self._client, self._limit, self._deflate, opened)
            self.partial = None
        while not slow.events:
            if self._position >= len(self._buffer):
                return self._wait(b"", 0)
            self._position += slow.feed(self._buffer, self._position)
        event = slow.events.popleft()
        return self._end(event) if isinstance(event, (Close, Violation)) else event

    def _end(self, event: Close | Violation) -> Event:
        self.give_up()
        return event

    def give_up(self) -> Event | None:
        """Receive no more, and drop what has arrived: there is no event."""
        self._ended = True
        self._fast = False
        self.partial = self._slow = None
        return self._wait(b"", 0)


def read_header(
    buffer: bytes, position: int, allowed: Container[int]
) -> tuple[int, int, int] | None:
    """Read the header of a frame from a client.

    :param buffer: what has been received.
    :param position: where the frame begins.
    :param allowed: the first bytes that are valid here.
    :return: its first byte, where its payload begins, and the size of that, which is ``WRONG`` if
        the header is invalid; ``None`` if the header has not arrived whole.
    """
    received = len(buffer)
    if received - position < 2:
        return None
    first, second = buffer[position], buffer[position + 1]
    size = second - MASKED
    start = position + 6
    if size < 0 or first not in allowed or (size >= TWO_BYTES and first & CONTROL):
        return first, start, WRONG
    if size >= TWO_BYTES:
        start += 2 if size == TWO_BYTES else 8
        # An invalid size is found before the mask has arrived.
        if start - 4 > received:
            return None
        size = int.from_bytes(buffer[position + 2 : start - 4], "big")
        if size < TWO_BYTES or (second == MASKED | EIGHT_BYTES and not 2**16 <= size < 2**63):
            size = WRONG
    return (first, start, size) if start <= received or size == WRONG else None
