"""The end of a connection at a time of the clock, such as that of a JWT."""

from __future__ import annotations

import time
import weakref

from ..connection.async_connection import AnyConnection
from .identities import DISMISSED

__all__ = ["EXPIRED", "Deadline"]

EXPIRED = "the login has expired"
#: Seconds after which the clock is looked at again: it may have been set, and a connection that has
#: ended is not kept in mind for longer.
STEP = 60.0


class Deadline:
    """Ends a connection when its time has come.

    :param connection: the connection.
    """

    __slots__ = ("__weakref__", "_connection", "_turn", "at")

    def __init__(self, connection: AnyConnection) -> None:
        self._connection = connection
        #: The time, in seconds since 1970, UTC; ``None`` for none.
        self.at: float | None = None
        # How often it was set: what was planned before counts no more.
        self._turn = 0

    def set(self, at: float | None) -> None:
        """Set the time."""
        self.at = at
        self._turn += 1
        self.look(self._turn)

    def look(self, turn: int) -> None:
        """End the connection if it is time, or plan when to look again."""
        connection = self._connection
        if self.at is None or turn != self._turn or not connection.connected:
            return
        left = self.at - time.time()
        if left <= 0:
            connection.dismiss(DISMISSED, EXPIRED)
        else:
            connection.call_later(min(left, STEP), Look(self, turn))


class Look:
    """A look at the clock that is planned; it does not keep the connection in memory.

    :param deadline: the deadline.
    :param turn: how often that had been set.
    """

    __slots__ = ("_reference", "_turn")

    def __init__(self, deadline: Deadline, turn: int) -> None:
        self._reference = weakref.ref(deadline)
        self._turn = turn

    def __call__(self) -> None:
        deadline = self._reference()
        if deadline is not None:
            deadline.look(self._turn)
