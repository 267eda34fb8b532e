"""wsproto, which reads all frames at a client, and at a server those that are invalid."""

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
from .frames import CLOSE, CONTROL, EIGHT_BYTES, FIN, MASKED, TWO_BYTES
from .masking import apply_mask

__all__ = ["SlowLane"]

#: The close code of a gateway that got no good answer, which wsproto does not know, and the one
#: that it is given instead. They differ by these bits of their second byte, masked or not.
BAD_GATEWAY, SUBSTITUTE = 1014, 1013
DIFFERENCE = BAD_GATEWAY ^ SUBSTITUTE


class SlowLane:
    """wsproto, fed frame by frame, so that a frame's header is seen before its payload.

    :param client: whether this endpoint is the client.
    :param limit: the largest message accepted, in bytes.
    :param deflate: the connection's compression.
    :param opened: the first byte of the first frame of a message that is open already.
    """

    def __init__(
        self, client: bool, limit: int, deflate: Deflate | None, opened: int | None = None
    ) -> None:
        self.wsproto = WSProtoConnection(
            ConnectionType.CLIENT if client else ConnectionType.SERVER,
            [] if deflate is None else [deflate],
        )
        self.limit = limit
        self.events: deque[Event] = deque()
        # The frame: its header so far, and how much of its payload is to come.
        self.header = bytearray()
        self.remaining = 0
        # A close frame: the key that masks it, its code so far, and whether wsproto was told
        # another.
        self.key: bytes | None = None
        self.code = b""
        self.substituted = False
        # The message: its size by the headers of its frames, and its bytes so far.
        self.size = 0
        self.data: bytearray | None = None
        if opened is not None:
            self.feed(bytes((opened & ~FIN, MASKED, 0, 0, 0, 0)), 0)

    @property
    def held(self) -> int:
        """Bytes of memory that an unfinished message takes."""
        return 0 if self.data is None else len(self.data)

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
            if self.key is not None and len(self.code) < 2:
                chunk = self._substitute(chunk, self.key)
        else:
            header += chunk
            begun = len(header) > 1 and len(header) == _header_size(header)
        self.wsproto.receive_data(chunk)
        events = list(self.wsproto.events())
        # If wsproto has found the header invalid, there is no frame.
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
        if first == CLOSE:
            self.key = bytes(header[-4:]) if header[1] & MASKED else bytes(4)
        header.clear()
        self.remaining = size
        if first & CONTROL:
            return
        self.size += size
        if self.size > self.limit:
            self.events.append(too_big(self.size, self.limit))

    def _substitute(self, chunk: bytes, key: bytes) -> bytes:
        """Return a part of a close frame as wsproto is to see it."""
        known = len(self.code)
        self.code += chunk[: 2 - known]
        if int.from_bytes(apply_mask(self.code, key), "big") != BAD_GATEWAY:
            return chunk
        self.substituted = True
        last = 1 - known
        return chunk[:last] + bytes((chunk[last] ^ DIFFERENCE,)) + chunk[last + 1 :]

    def _translate(self, event: WSProtoEvent) -> None:
        if isinstance(event, (TextMessage, BytesMessage)):
            self._take(event.data, finished=event.message_finished)
        elif isinstance(event, WSProtoPing):
            self.events.append(Ping(bytes(event.payload)))
        elif isinstance(event, WSProtoPong):
            self.events.append(Pong(bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            code, reason = int(event.code), event.reason or ""
            if self.wsproto.state is ConnectionState.REMOTE_CLOSING:
                self.events.append(Close(BAD_GATEWAY if self.substituted else code, reason))
            else:
                # wsproto gives no details of a fault in an extension.
                reason = FAULTS.get(code, reason) if "extension" in reason else reason
                self.events.append(Violation(code, reason))

    def _take(self, part: str | bytes | bytearray, *, finished: bool) -> None:
        """Add a part of a message.

        The parts are kept as bytes: decoded, they would take up to four times the memory.
        """
        if self.data is None:
            if finished:
                self.size = 0
                self.events.append(part if isinstance(part, str) else bytes(part))
                return
            self.data = bytearray()
        self.data += part.encode() if isinstance(part, str) else part
        if finished:
            text = isinstance(part, str)
            self.events.append(str(self.data, "utf-8") if text else bytes(self.data))
            self.size = 0
            self.data = None


def _header_size(header: bytearray) -> int:
    """Tell a header's size, as far as its first bytes tell."""
    if len(header) < 2:
        return 2
    size = header[1] & ~MASKED
    extended = 2 if size == TWO_BYTES else 8 if size == EIGHT_BYTES else 0
    return 2 + extended + (4 if header[1] & MASKED else 0)
