"""What the protocol reports, besides messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .close_codes import MESSAGE_TOO_BIG

__all__ = [
    "PROGRESS",
    "Close",
    "Event",
    "Ping",
    "Pong",
    "Progress",
    "Violation",
    "too_big",
]


@dataclass(frozen=True)
class Ping:
    """The peer has sent a ping; a pong with the same payload is due."""

    payload: bytes


@dataclass(frozen=True)
class Pong:
    """The peer has sent a pong."""

    payload: bytes


@dataclass(frozen=True)
class Close:
    """The peer has sent a close frame; the last event."""

    code: int
    reason: str


@dataclass(frozen=True)
class Violation:
    """The peer has broken the protocol or a limit, and the connection must fail; the last event.

    ``code`` and ``reason`` are for the close frame that tells the peer so.
    """

    code: int
    reason: str


@dataclass(frozen=True)
class Progress:
    """Some fragments of a message were read, and more are there; there is nothing to do."""


PROGRESS = Progress()

#: What the protocol returns. A message is a plain ``str`` or ``bytes``.
Event: TypeAlias = "str | bytes | Ping | Pong | Progress | Close | Violation"


def too_big(size: int, limit: int) -> Violation:
    """Report a message of ``size`` bytes where ``limit`` are allowed."""
    return Violation(MESSAGE_TOO_BIG, f"message too big: {size} bytes, the limit is {limit}")
