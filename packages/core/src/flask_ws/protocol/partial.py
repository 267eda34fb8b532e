"""Messages of which a part has arrived, and the memory that the parts are kept in.

Their bytes are kept once. A text is checked as it arrives, so that invalid UTF-8 fails at once, and
decoded at its end: decoded characters take up to four times the memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

from ..budget import STEP
from .deflate import Deflate
from .frames import OPCODE, RSV1, TEXT
from .masking import apply_mask

__all__ = ["GIVEN_UP", "Meter", "PartialFrame", "PartialMessage"]

#: Called as a message grows; ``False`` if the process holds too much.
Meter = Callable[[], bool]
#: In place of a close code: the process holds too much, and the connection has been failed already.
GIVEN_UP = -1

#: The memory that a frame gets before its payload arrives; it doubles as the payload arrives, so
#: that a header alone, whatever size it announces, costs no more than this.
FIRST_BUFFER = 2**16
#: The most buffers that are kept for later frames, and the largest size of one.
SPARES = 4
LARGEST_SPARE = 2**20

#: Buffers of large frames that have been read, for reuse: allocating that much memory takes longer
#: than filling it.
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


def check_utf8(begun: bytes, part: bytes) -> bytes:
    """Check a part of a text.

    :param begun: the incomplete character at the end of the part before.
    :param part: the next part.
    :return: the incomplete character at the end of this part.
    :raises UnicodeDecodeError: it is not UTF-8.
    """
    data = begun + part if begun else part
    if data.isascii():
        return b""
    _, decoded = codecs.utf_8_decode(data, "strict", False)
    return data[decoded:]


class PartialFrame:
    """A message in one frame, not compressed, whose payload is read directly into a buffer."""

    __slots__ = ("begun", "buffer", "checked", "filled", "mask", "size", "text")

    def __init__(self, text: bool, mask: bytes, size: int) -> None:
        self.text = text
        self.mask = mask
        self.size = size
        self.buffer = _take_spare(size) or bytearray(min(size, FIRST_BUFFER))
        self.filled = 0
        # Of a text: how much is unmasked and checked, and the incomplete character at its end.
        self.checked = 0
        self.begun = b""

    @property
    def held(self) -> int:
        """Bytes of memory that it takes."""
        return len(self.buffer)

    def make_room(self) -> None:
        """Enlarge the buffer, if it is full."""
        if self.filled == len(self.buffer):
            self.buffer.extend(bytes(min(self.filled, self.size - self.filled)))

    def get_buffer(self) -> memoryview:
        """Return where the rest of the payload goes; the view must be released after the read."""
        self.make_room()
        return memoryview(self.buffer)[self.filled : self.size]

    def add(self, data: memoryview) -> int:
        """Copy what belongs to the frame; return how much that was."""
        size = min(len(data), self.size - self.filled)
        end = self.filled + size
        # Up to len(self.buffer) this fills it, past that it extends it.
        self.buffer[self.filled : end] = data[:size]
        self.filled = end
        return size

    def check(self) -> None:
        """Check what has arrived of a text.

        :raises UnicodeDecodeError: it is not UTF-8.
        """
        if self.text and self.checked < self.filled:
            self.begun = check_utf8(self.begun, self._unmask())

    def finish(self) -> str | bytes:
        """Return the message.

        :raises UnicodeDecodeError: it is not UTF-8.
        """
        message: str | bytes
        if self.text:
            self._unmask()
            message = str(memoryview(self.buffer)[: self.size], "utf-8")
        else:
            message = apply_mask(memoryview(self.buffer)[: self.size], self.mask)
        _give_spare(self.buffer)
        return message

    def _unmask(self) -> bytes:
        """Unmask in place what has arrived of a text."""
        turn = self.checked % 4
        mask = self.mask[turn:] + self.mask[:turn]
        part = apply_mask(memoryview(self.buffer)[self.checked : self.filled], mask)
        self.buffer[self.checked : self.filled] = part
        self.checked = self.filled
        return part


class PartialMessage:
    """A message in fragments, or compressed, of which a part has arrived.

    :param first: the first byte of its first frame.
    :param deflate: the connection's compression.
    :param meter: called as it grows.
    """

    __slots__ = (
        "begun",
        "data",
        "deflate",
        "final",
        "first",
        "mask",
        "meter",
        "metered",
        "remaining",
        "size",
        "text",
    )

    def __init__(self, first: int, deflate: Deflate | None, meter: Meter | None = None) -> None:
        self.meter = meter
        # The size at its last call.
        self.metered = 0
        #: The first byte of its first frame.
        self.first = first
        self.text = first & OPCODE == TEXT & OPCODE
        self.deflate = deflate if first & RSV1 else None
        if self.deflate is not None:
            self.deflate.begin_message()
        #: Its bytes so far, inflated.
        self.data = bytearray()
        #: Its size so far, as its frames' headers tell.
        self.size = 0
        # The incomplete character at the end of a text so far.
        self.begun = b""
        # The frame: how much of its payload is to come, masked with what, and whether it is the
        # last one.
        self.remaining = 0
        self.mask = b""
        self.final = False

    @property
    def held(self) -> int:
        """Bytes of memory that it takes."""
        return len(self.data)

    def make_room(self) -> None:
        """Do nothing: the memory grows with each part."""

    def get_buffer(self) -> None:
        """Return ``None``: there is no buffer to read into."""

    def begin_frame(self, final: bool, size: int, mask: bytes) -> None:
        """Begin its next frame.

        :param final: whether it is the last one.
        :param size: the size of its payload.
        :param mask: what that is masked with.
        """
        self.final = final
        self.size += size
        self.remaining = size
        self.mask = mask

    def add(self, data: bytes) -> int:
        """Add a part of the frame's payload.

        :param data: the part, masked.
        :return: 0, or the close code that says what is wrong with it, or ``GIVEN_UP``.
        :raises UnicodeDecodeError: a text is not UTF-8.
        """
        size = len(data)
        part = apply_mask(data, self.mask)
        self.remaining -= size
        if self.remaining:
            turn = size % 4
            self.mask = self.mask[turn:] + self.mask[:turn]
        if self.deflate is None:
            return self._add(part)
        for piece in self.deflate.inflate(part):
            fault = self._add(piece)
            if fault:
                return fault
        return 0

    def end(self) -> int:
        """Inflate what is left at the end of a compressed message; otherwise as :meth:`add`."""
        return 0 if self.deflate is None else self._add(self.deflate.end_message())

    def _add(self, part: bytes | int) -> int:
        if isinstance(part, int):
            return int(part)
        if self.text:
            self.begun = check_utf8(self.begun, part)
        self.data += part
        if self.meter is None or len(self.data) - self.metered < STEP:
            return 0
        self.metered = len(self.data)
        return 0 if self.meter() else GIVEN_UP

    def finish(self) -> str | bytes:
        """Return the message.

        :raises UnicodeDecodeError: it is not UTF-8.
        """
        return str(self.data, "utf-8") if self.text else bytes(self.data)
