"""All that the fast lane leaves to wsproto: control frames, fragments, compression, faults."""

from __future__ import annotations

from collections import deque

from wsproto import ConnectionType
from wsproto.connection import Connection as WSProtoConnection
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Event as WSProtoEvent
from wsproto.events import Ping as WSProtoPing
from wsproto.events import Pong as WSProtoPong

from .deflate import FAULTS, Deflate
from .events import Close, Event, Ping, Pong, Violation, too_big
from .frames import CONTROL, EIGHT_BYTES, FIN, MASKED, TWO_BYTES

__all__ = ["SlowLane"]

#: Small fragments of a message are joined when there are so many of them: an object for each
#: takes more than ten times its two or three bytes.
MANY_PARTS = 1000


class SlowLane:
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
        wanted = self.remaining
        if not wanted:
            missing = max(0, 2 - len(header))
            wanted = _header_size(header + buffer[position : position + missing]) - len(header)
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
            self.events.append(too_big(self.size, self.limit))

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
                reason = FAULTS.get(code, reason) if "extension" in reason else reason
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
