"""The types of a broker's history: positions, messages, and how many are kept for how long."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["History", "Position", "Retention"]

#: The most digits of an offset: what any broker can count to.
MAX_DIGITS = 15


class Position(NamedTuple):
    """A place in the history of a channel. Apps see it as text, which is opaque to them."""

    #: Names one history: a broker that has lost a channel's history begins another, with an epoch
    #: that no history has had before. Text without spaces, of ASCII.
    epoch: str
    #: The number of the last message before this place. The first message of a history is 1, and
    #: each is one more than the message before it.
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Read a position from its text; ``None`` if it is none. Clients may have sent it."""
        epoch, _, digits = text.rpartition("-")
        if not (digits.isascii() and digits.isdecimal()) or len(digits) > MAX_DIGITS:
            return None
        # A lone surrogate, which no broker could be sent, is not printable.
        if not (epoch and epoch.isprintable()):
            return None
        return cls(epoch, int(digits))


class Retention(NamedTuple):
    """How much of a channel is kept."""

    #: The most messages.
    messages: int
    #: Seconds for which a message is kept.
    seconds: float


class History(NamedTuple):
    """What a broker has kept of a channel."""

    #: The position after the last message that was published.
    position: Position
    #: Offsets and payloads, in order.
    messages: list[tuple[int, bytes]]
