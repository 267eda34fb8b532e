"""Notifications: their names, and what they can carry."""

from __future__ import annotations

import hashlib
from base64 import b64encode

__all__ = ["PIECE_SIZE", "name_notifications", "split"]

#: Bytes of a payload that go into a notification, whose text has 7999 at most.
PIECE_SIZE = 5700


def name_notifications(channel: str) -> str:
    """Return the name of a channel's notifications, which is short and of ASCII.

    :raises UnicodeEncodeError: it has no UTF-8.
    """
    # PostgreSQL's names have 63 bytes at most.
    return "flask_ws_" + hashlib.blake2b(channel.encode(), digest_size=20).hexdigest()


def split(payload: bytes) -> list[str]:
    """Make of a payload what notifications can carry: text of any encoding, in pieces."""
    starts = range(0, max(len(payload), 1), PIECE_SIZE)
    return [b64encode(payload[start : start + PIECE_SIZE]).decode() for start in starts]
