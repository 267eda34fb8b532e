"""A message that many connections get: its frames are made once."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from ..budget import budget
from .deflate import THRESHOLD, make_compressor
from .frames import RSV1, TEXT, BytesLike, header

__all__ = ["SharedMessage", "is_shared"]

#: A frame of at least this many bytes is counted once, however many outboxes it waits in; a smaller
#: one in each, which is less work.
LARGE = 2**12


class SharedFrame(bytes):
    """A large frame in the outboxes of many connections."""

    __slots__ = ()

    # Bound here: at interpreter shutdown the module's globals may be gone.
    def __del__(self, forget: Callable[[int], object] = budget.forget) -> None:
        """Stop counting it, when the last outbox has dropped it."""
        forget(len(self))


def share(frame: bytes) -> bytes:
    """Return a frame for many outboxes, counted once if it is large."""
    if len(frame) < LARGE:
        return frame
    shared = SharedFrame(frame)
    budget.change(None, len(shared))
    return shared


def is_shared(frame: BytesLike) -> bool:
    """Tell whether a frame, or what is left of it, is counted once for all that hold it."""
    whole = frame.obj if isinstance(frame, memoryview) else frame
    return type(whole) is SharedFrame


class SharedMessage:
    """A message that a server broadcasts; its frame is made once, when it is first needed.

    :param first: the first byte of its frame: ``TEXT`` or ``BINARY``.
    :param payload: its payload.
    :param is_json: whether it is text that was made as JSON.
    """

    __slots__ = (
        "_compressed",
        "data",
        "first",
        "is_json",
        "payload",
        "plain",
        "position",
        "worth_deflating",
        "wrapped",
    )

    def __init__(self, first: int, payload: BytesLike, *, is_json: bool = False) -> None:
        self.first = first
        self.payload = payload
        #: Where it is in its channel's history, if that has one.
        self.position: object | None = None
        self.is_json = is_json
        #: What connections get that have to be told the channel; made once for all of them.
        self.wrapped: SharedMessage | None = None
        #: Whether connections with compression get another.
        self.worth_deflating = len(payload) >= THRESHOLD
        self._compressed: dict[int, bytes] = {}

    #: The frame for connections without compression.
    plain: bytes
    #: What connections get whose server frames it: ``str`` or ``bytes``.
    data: str | bytes

    def __getattr__(self, name: str) -> str | bytes:
        """Make one of these two: Python calls this once for each, the first time."""
        payload = self.payload
        if name == "plain":
            self.plain = share(b"".join((header(self.first, len(payload)), payload)))
            return self.plain
        if name == "data":
            self.data = str(payload, "utf-8") if self.first == TEXT else bytes(payload)
            return self.data
        raise AttributeError(name)

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
            start = header(self.first | RSV1, size)
            frame = self._compressed[bits] = share(b"".join((start, memoryview(payload)[:size])))
        return frame
