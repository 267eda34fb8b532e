"""The payloads of control frames (RFC 6455 section 5.5)."""

from __future__ import annotations

from .close_codes import CLOSE_CODES, NO_STATUS
from .events import Close, Ping, Pong
from .frames import CLOSE, PING

__all__ = ["read_control", "write_close"]

#: The largest payload of a control frame, of which a close frame's code takes two (section 5.5).
MAX_CONTROL_PAYLOAD = 125


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


def write_close(code: int, reason: str) -> bytes:
    """Make the payload of a close frame (section 5.5.1).

    :param code: the close code; 1005 makes a frame without one.
    :param reason: cut to the 123 bytes that there is room for.
    """
    if code == NO_STATUS:
        return b""
    text = reason.encode()[: MAX_CONTROL_PAYLOAD - 2].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + text
