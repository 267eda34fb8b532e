"""Holding back what a thread sends while it processes a batch of messages.

A system call is expensive, and one call can send many messages of a connection. So what the methods
of an event view send, while more messages wait for them, goes out after the last, or earlier when
one of them takes long.
"""

from __future__ import annotations

import threading
from typing import Protocol

__all__ = ["Cork", "corks"]

#: From this many bytes on, holding them back gains nothing.
ENOUGH = 2**14


class Held(Protocol):
    """What can hold back what it sends."""

    def send_held(self) -> None:
        """Send what was held back; never waits, and does nothing where there is none."""


class Cork:
    """The connections that hold something back for one thread."""

    def __init__(self) -> None:
        self._held: dict[Held, None] = {}

    @property
    def holds_back(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held)

    def hold(self, connection: Held) -> None:
        """Register a connection that holds something back."""
        self._held[connection] = None

    def release(self) -> None:
        """Send all of it; another thread may do so at the same time."""
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
