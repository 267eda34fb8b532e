"""Holding back what a thread sends while it works off a batch of messages.

To send is a call of the kernel's, and dear; to send eight messages that belong to one connection is
one call as well. So what the methods of an event view send, while more messages wait for them, goes
out after the last: or earlier, when one of them takes its time.
"""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["Cork", "corks"]

#: Bytes that are not worth holding back any more.
ENOUGH = 2**14


class Held(Protocol):
    """What can hold back what it sends."""

    def send_held(self) -> None:
        """Send what was held back; never waits, and does nothing where there is none."""


class Cork:
    """The connections that hold something back for one thread."""

    def __init__(self) -> None:
        self._held: dict[Held, None] = {}

    def hold(self, connection: Held) -> None:
        """Take note of a connection that holds something back."""
        self._held[connection] = None

    def release(self) -> None:
        """Send all of it; another thread may do so as well."""
        while self._held:
            try:
                connection, _ = self._held.popitem()
            except KeyError:
                return
            connection.send_held()


class _Corks(threading.local):
    """The thread's cork, while it has one."""

    current: Cork | None = None


corks = _Corks()
