"""What a connection has to send, and the kernel has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..concurrency import Concurrency
from ..protocol.frames import BytesLike
from ..protocol.shared import is_shared

__all__ = ["Outbox"]

#: Queued frames are joined up to this many bytes for one system call, which costs as much as
#: copying them.
JOINED_SIZE = 2**14


class Outbox:
    """A queue of frames. Any thread may append some; one at a time may take them out.

    :param concurrency: the primitives of the connection.
    """

    __slots__ = ("_lock", "closed", "frames", "size", "unsure")

    def __init__(self, concurrency: Concurrency) -> None:
        # Never held for long.
        self._lock = concurrency.lock()
        #: Whether a close frame has been put in, which nothing may follow.
        self.closed = False
        #: The frames; empty or ``None`` if nothing waits, as on most connections.
        self.frames: deque[BytesLike] | None = None
        #: Their bytes.
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
            self._deque().extend(parts)
            self.size += sum(map(len, parts))
            return True

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
        return frames[0]

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
            self.frames = begun
            self.size = sum(map(len, begun))

    def count(self) -> tuple[int, int]:
        """Return the bytes that wait: all of them, and those that no other outbox shares."""
        with self._lock:
            shared = sum(len(frame) for frame in self.frames or () if is_shared(frame))
            return self.size, self.size - shared

    def clear(self) -> None:
        """Drop all frames: they cannot be sent any more."""
        with self._lock:
            self.frames = None
            self.size = 0

    def _deque(self) -> deque[BytesLike]:
        """Return the frames, as a deque in any case."""
        if self.frames is None:
            self.frames = deque()
        return self.frames
