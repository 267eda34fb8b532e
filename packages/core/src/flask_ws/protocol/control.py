"""Reading valid control frames (RFC 6455 section 5.5)."""

from __future__ import annotations

from .events import Close, Ping, Pong
from .frames import CLOSE, PING

__all__ = ["CLOSE_CODES", "read_control"]

NO_STATUS = 1005

#: The close codes that an endpoint may send and receive (section 7.4; 1012 to 1014 by IANA's
#: registry).
CLOSE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


def read_control(first: int, payload: bytes) -> Ping | Pong | Close | None:
    """Return the event of a control frame, or ``None`` for an invalid close frame.

    :param first: the first byte of the frame: that of a close frame, a ping or a pong.
    :param payload: its payload, unmasked.
    """
    if first != CLOSE:
        return Ping(payload) if first == PING else Pong(payload)
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or code not in CLOSE_CODES:
        return None
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        return None
