"""What an app may call a user."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from ..channels.settings import MAX_NAME_SIZE

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DISMISSED", "Identity", "check_identity", "read_time"]

#: The close code of a connection that may not stay, in the range for private use (RFC 6455 section
#: 7.4.2).
DISMISSED = 4001


class Identity(str):
    """A user's identity, and until when the user is logged in: for :meth:`Sock.identify`.

    It equals its text.

    :param text: the identity.
    :param expires_at: when the connection ends, as :attr:`WebSocket.expires_at`; ``None`` for no
        such time.
    """

    __slots__ = ("expires_at",)

    def __new__(cls, text: str, expires_at: float | datetime | None = None) -> Self:
        """Make one of its text."""
        identity = super().__new__(cls, text)
        identity.expires_at = read_time(expires_at)
        return identity

    #: Set by ``__new__``, because a ``str`` has its value from there.
    expires_at: float | None


def check_identity(identity: object) -> None:
    """Check an identity.

    :raises TypeError: it is no ``str``.
    :raises ValueError: it is empty, has more than 255 bytes in UTF-8, or has no UTF-8.
    """
    if not isinstance(identity, str):
        raise TypeError(
            f"An identity is text, not {type(identity).__name__}: str() makes it of a number."
        )
    if not identity:
        raise ValueError("An identity must not be empty; who has none is None.")
    try:
        size = len(identity.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"An identity must be text that UTF-8 can say: {error.reason}.") from None
    if size > MAX_NAME_SIZE:
        raise ValueError(f"An identity must not be longer than {MAX_NAME_SIZE} bytes of UTF-8.")


def read_time(when: object) -> float | None:
    """Return a time in seconds since 1970, UTC.

    :raises TypeError: it is no time.
    :raises ValueError: it is none that a clock will show, or a local one without its zone.
    """
    if when is None:
        return None
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError("A time needs its zone: datetime.now(timezone.utc), not utcnow().")
        return when.timestamp()
    if isinstance(when, bool) or not isinstance(when, (int, float)):
        raise TypeError(
            f"A time is a datetime, or the seconds since 1970, not {type(when).__name__}."
        )
    if not math.isfinite(when):
        raise ValueError(f"A time must be finite, not {when!r}; None is for no time.")
    return float(when)
