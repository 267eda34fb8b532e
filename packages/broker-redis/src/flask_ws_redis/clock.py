"""ServerClock: until when a server may begin with something, told by its own clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

__all__ = ["ServerClock"]

#: The part of the time for an answer after which a server does not begin any more.
BEGIN_PART = 3 / 4


class ServerClock:
    """A server's clock, as far as it is known here.

    A server that had hung does what it was sent meanwhile, when nobody waits for the answer any
    more, unless it is told until when it may begin. What it refuses for that reason, it answers
    with its time, so that a clock which was set is known again at the next attempt.

    :param answer: seconds that an answer is waited for.
    """

    def __init__(self, answer: float) -> None:
        self._wait = answer * BEGIN_PART
        # Seconds between its clock and the monotonic one here; at first it is taken to be right.
        self._ahead = time.time() - time.monotonic()

    def make_deadline(self) -> bytes:
        """Return until when something may be begun, in milliseconds of the server's clock."""
        return b"%d" % ((time.monotonic() + self._ahead + self._wait) * 1000)

    def read(self, answer: Sequence[bytes]) -> None:
        """Take note of the server's time.

        :param answer: that to ``TIME``, which has just arrived: seconds and microseconds.
        """
        seconds, microseconds = answer
        # It was that time when the server answered, or a moment before: no deadline is too late.
        self._ahead = int(seconds) + int(microseconds) / 1e6 - time.monotonic()
