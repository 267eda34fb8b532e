"""What a connection has to send, and the kernel has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..concurrency import Concurrency
from ..protocol.frames import BytesLike
from ..protocol.shared import is_shared

__all__ = ["OFFERED", "Outbox", "Slot"]

#: Queued frames are joined up to this many bytes for one system call, which costs as much as
#: copying them.
JOINED_SIZE = 2**14
#: The part of its limit that may be filled by messages that are dropped past it. The rest is for
#: others.
OFFERED = 1 / 4


class Slot:
    """A place in outboxes for one frame at a time, which a newer one replaces until it is sent."""

    __slots__ = ("frame",)

    def __init__(self) -> None:
        #: What waits; ``None`` if nothing does.
        self.frame: bytes | None = None


class Outbox:
    """A queue of frames. Any thread may append some; one at a time may take them out.

    :param concurrency: the primitives of the connection.
    """

    __slots__ = ("_lock", "_slots", "closed", "frames", "size", "unsure")

    def __init__(self, concurrency: Concurrency) -> None:
        # Never held for long.
        self._lock = concurrency.lock()
        # How many slots are among the frames.
        self._slots = 0
        #: Whether a close frame has been put in, which nothing may follow.
        self.closed = False
        #: The frames, and slots; empty or ``None`` if nothing waits, as on most connections.
        self.frames: deque[Any] | None = None
        #: The bytes of the frames.
        self.size = 0
        #: Whether a signal handler's exception has interrupted a change of the first frame.
        self.unsure = False

    @property
    def is_finished(self) -> bool:
        """Whether everything has gone out, a close frame as the last."""
        return self.closed and not self.frames

    def append(self, *parts: BytesLike) -> bool:
        """Put a frame in; ``False`` if a close frame has been put in already.

        :param parts: the frame, or its parts in their order.
        """
        with self._lock:
            if self.closed:
                return False
            frames = self.frames
            if frames is None:
                frames = self.frames = deque()
            if len(parts) == 1:
                # A message for many: each connection takes this way.
                frames.append(parts[0])
                self.size += len(parts[0])
            else:
                frames.extend(parts)
                self.size += sum(map(len, parts))
            return True

    def put(self, slot: Slot, frame: bytes) -> bool:
        """Put a frame in, or in place of the one that waits in the same slot.

        :return: whether one has waited there.
        """
        with self._lock:
            waits = slot.frame is not None
            if waits or not self.closed:
                slot.frame = frame
            if not waits and not self.closed:
                self._deque().append(slot)
                self._slots += 1
            return waits

    def close(self, frame: BytesLike, announce: Callable[[], object]) -> None:
        """Put a close frame in, which nothing may follow.

        :param announce: called first, so that it has taken effect when another thread sees the
            frame.
        """
        with self._lock:
            announce()
            self._deque().append(frame)
            self.closed = True
            self.size += len(frame)

    def put_back(self, *rest: BytesLike) -> None:
        """Put the parts of a frame that the kernel did not take before everything else."""
        with self._lock:
            self.unsure = True
            self._deque().extendleft(reversed(rest))
            self.size += sum(map(len, rest))
            self.unsure = False

    def holds(self, frame: BytesLike | None) -> bool:
        """Tell whether this very frame waits."""
        with self._lock:
            return any(other is frame for other in self.frames or ())

    def peek(self) -> BytesLike:
        """Return what to send next: the next frame, joined with those behind it if it is small."""
        frames = self._deque()
        if self._slots:
            return self._peek_one(frames)
        if len(frames) > 1 and len(frames[0]) < JOINED_SIZE:
            with self._lock:
                self.unsure = True
                parts: list[BytesLike] = []
                size = 0
                while frames and (not parts or size + len(frames[0]) <= JOINED_SIZE):
                    size += len(frames[0])
                    parts.append(frames.popleft())
                joined = b"".join(parts)
                # A view marks a frame of which a part has been sent; see cut().
                frames.appendleft(memoryview(joined) if type(parts[0]) is memoryview else joined)
                self.unsure = False
        first: BytesLike = frames[0]
        return first

    def _peek_one(self, frames: deque[Any]) -> BytesLike:
        """Return the next frame alone: what waits in a slot may be replaced until it is the next.

        Not any more then: TLS takes nothing else after it was given a frame.
        """
        with self._lock:
            first = frames[0]
            if type(first) is Slot:
                self.unsure = True
                frames[0], first.frame = first.frame, None
                self._slots -= 1
                self.size += len(frames[0])
                self.unsure = False
            next_: BytesLike = frames[0]
            return next_

    def sent(self, size: int) -> None:
        """Remove as many bytes of :meth:`peek` as the kernel has taken."""
        with self._lock:
            self.unsure = True
            frames = self._deque()
            self.size -= size
            if size == len(frames[0]):
                frames.popleft()
            elif size:
                frames[0] = memoryview(frames[0])[size:]
            self.unsure = False

    def cut(self) -> None:
        """Drop all but the rest of a frame that is partly sent, so that the stream stays valid.

        A frame begins with ``bytes``; its further parts, and what is left of it, are views.
        """
        with self._lock:
            frames = self._deque()
            begun: deque[BytesLike] = deque()
            while frames and type(frames[0]) is memoryview:
                begun.append(frames.popleft())
            self.frames, self._slots = begun, 0
            self.size = sum(map(len, begun))

    def count(self) -> tuple[int, int]:
        """Return the bytes that wait: all of them, and those that no other outbox shares."""
        with self._lock:
            shared = sum(len(frame) for frame in self.frames or () if is_shared(frame))
            return self.size, self.size - shared

    def clear(self) -> None:
        """Drop all frames: they cannot be sent any more."""
        with self._lock:
            self.frames, self._slots = None, 0
            self.size = 0

    def _deque(self) -> deque[Any]:
        """Return the frames, as a deque in any case."""
        if self.frames is None:
            self.frames = deque()
        return self.frames
