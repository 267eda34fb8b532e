"""A large frame that arrives in pieces, and the memory that it is read into."""

from __future__ import annotations

import codecs

from .masking import apply_mask

__all__ = ["PartialFrame"]

#: The memory that a frame gets before its payload comes; it doubles as the payload arrives, so
#: that a header alone, whatever it promises, costs no more than this.
FIRST_BUFFER = 2**16
#: How many buffers are kept for later frames, and how large ones, at the most.
SPARES = 4
LARGEST_SPARE = 2**20

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
        """Return where the rest of the payload goes; the view must not outlive the reading."""
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
