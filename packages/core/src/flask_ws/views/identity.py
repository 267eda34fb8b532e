"""Who a connection belongs to, and until when: what handlers of all kinds are told."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ..connection.endpoint import connection_of
from ..identity.deadline import Deadline
from ..identity.identities import read_time

if TYPE_CHECKING:
    from ..identity.recheck import Recheck

__all__ = ["Identified"]


class Identified:
    """The part of a ``ws`` about its user."""

    if not TYPE_CHECKING:
        __slots__ = ()
    else:
        # Slots of the classes that derive from it.
        _deadline: Deadline | None
        _identity: str | None
        _recheck: Recheck | None

    @property
    def identity(self) -> str | None:
        """Who the client is: what :meth:`Sock.identify` or a ticket says; else ``None``."""
        return self._identity

    @property
    def expires_at(self) -> float | None:
        """When the connection ends, in seconds since 1970, UTC; ``None`` for no such time.

        A handler may set it, to such a number or to a :class:`~datetime.datetime` with a zone,
        and set it again. When the time has come, the connection is closed with 4001.

        :raises TypeError: it is set to what is no time.
        :raises ValueError: it is set to a time without a zone, or to one that never comes.
        """
        return None if self._deadline is None else self._deadline.at

    @expires_at.setter
    def expires_at(self, when: float | datetime | None) -> None:
        at = read_time(when)
        if self._deadline is None:
            if at is None:
                return
            self._deadline = Deadline(connection_of(self))
        self._deadline.set(at)
