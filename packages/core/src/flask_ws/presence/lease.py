"""The lease of this process at the broker, on which its members depend, and the leases of others.

It belongs to the thread that calls the broker.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from random import SystemRandom

from ..plugin.brokers import Broker
from ..plugin.presence import Lease

__all__ = ["ROUND", "STEADY", "HeldLease", "chance"]

#: Not the app's generator, which it may have seeded.
chance = SystemRandom()

#: Parts of the time that members outlive their process (SOCK_PRESENCE_LEASE): for which the lease
#: is held; after which it is renewed, and others' are looked at; and for which the broker must have
#: been reached before that: where it was away, the leases of processes may have run out that live.
HELD, ROUND, STEADY = 0.6, 0.2, 0.4
#: Seconds after which a channel's members are put again: the broker may have lost them alone.
REFRESH = 600.0


class HeldLease:
    """The lease that a process holds.

    :param broker: the broker.
    :param name: the lease's name there.
    :param seconds: those for which members may outlive their process; infinite where they cannot.
    """

    def __init__(self, broker: Broker, name: str, seconds: float) -> None:
        self._broker = broker
        self._seconds = seconds
        #: What the broker is told.
        self.current = Lease(name, 1)
        #: When it is to be renewed and others' are to be looked at, of :func:`time.monotonic`.
        self.next_round = 0.0
        # Whether the last renewal was answered.
        self._is_answered = True
        # Since when the broker has been reached all the time; and when it was last.
        self._steady_since: float | None = None
        self._reached = -math.inf
        # When the members of each channel are to be put, or read, again.
        self._refreshes: dict[str, float] = {}

    @property
    def was_renewed(self) -> bool:
        """Whether there has been a round yet."""
        return self._reached > -math.inf

    def doubt(self) -> None:
        """Take note that the broker is, or was, away: leases may run out. Any thread may."""
        self._steady_since = None

    def begin_term(self) -> None:
        """Have the broker refuse from now on what may still arrive there unanswered."""
        name, term = self.current
        self.current = Lease(name, term + 1)

    def renew(self, names: Collection[str]) -> Collection[str] | None:
        """Renew it.

        :param names: the channels that this process has to do with.
        :return: those of which members may have been lost with it; ``None`` for all.
        :raises BrokerError: the broker cannot be reached.
        """
        was_answered, self._is_answered = self._is_answered, False
        lost = self._broker.renew_lease(self.current, self._seconds * HELD, names)
        self._is_answered = True
        # It may have held the lease again, and only that answer have said what was lost.
        return lost if was_answered else None

    def note_reached(self, now: float) -> None:
        """Take note that the broker was reached."""
        if self._steady_since is None or now - self._reached > self._seconds * HELD:
            self._steady_since = now
        self._reached = now

    def take_due(self, names: Collection[str], now: float) -> list[str]:
        """Return the channels whose members are to be put, and read, again now."""
        due, refreshes = [], {}
        for name in names:
            when = self._refreshes.get(name)
            if when is not None and when <= now:
                due.append(name)
                when = None
            # Not those of all channels and processes at the same time.
            refreshes[name] = now + REFRESH * chance.uniform(0.5, 1) if when is None else when
        self._refreshes = refreshes
        return due

    def expire(self, leases: Mapping[str, Collection[str] | None], now: float) -> None:
        """Drop the members of other processes whose leases have run out; a round ends with that.

        Not before the broker has been reached for some time: their processes may live.

        :param leases: the names of those leases that are known, by channels; ``None`` for any.
        :raises BrokerError: the broker cannot be reached.
        """
        own = self.current.name
        if self._steady_since is not None and now - self._steady_since >= self._seconds * STEADY:
            others: dict[str, Collection[str] | None] = {}
            for name, found in leases.items():
                left = None if found is None else {*found} - {own}
                if left is None or left:
                    others[name] = left
            if others:
                self._broker.expire_members(others)
        self.next_round = now + self._seconds * ROUND

    def shorten(self, seconds: float, names: Collection[str]) -> None:
        """Hold it for so many seconds more, and not again.

        :raises BrokerError: the broker cannot be reached.
        """
        self._broker.renew_lease(self.current, seconds, names)
