"""Presence in one process: the members that ``memory://`` keeps."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping

from .history import Position
from .notices import Notices
from .presence import Lease, MemberChange, Members, lease_of

__all__ = ["MemberTable"]

#: Seconds for which the position of a channel without members is known after its last change; the
#: most such channels; and the number of channels from which on they are looked through.
IDLE_SECONDS = 3600.0
MOST_EMPTY = 10_000
MANY_CHANNELS = 1000

#: A channel of which nothing is known.
NOTHING = Members(Position("", 0), {})


class Record:
    """The members of one channel."""

    __slots__ = ("epoch", "members", "offset", "used")

    def __init__(self) -> None:
        self.epoch = os.urandom(8).hex()
        #: The number of the last change.
        self.offset = 0
        self.members: dict[str, bytes] = {}
        #: When it was last changed, by the monotonic clock.
        self.used = 0.0


class MemberTable:
    """The members of all channels, and the leases that they depend on. Any thread may use it."""

    def __init__(self) -> None:
        #: Gets the changes, in their order.
        self.deliver: Callable[[str, bytes, Position], object] | None = None
        # A signal's handler may join while its thread holds it.
        self._lock = threading.RLock()
        self._notices = Notices()
        self._records: dict[str, Record] = {}
        # The term of each, and until when it is held.
        self._leases: dict[str, tuple[int, float]] = {}
        self._looked_at = MANY_CHANNELS

    def change(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members, if the lease is held, and drop others; see :class:`.Broker`."""
        with self._lock:
            self._forget_unused()
            term, end = self._leases.get(lease.name, (None, 0.0))
            is_held = term == lease.term and end > time.monotonic()
            for member in dropped:
                self._drop(channel, member)
            for member, data in put.items() if is_held else ():
                self._put(channel, member, data)
        self._notices.make()
        return is_held

    def read(self, channel: str) -> Members:
        """Return the members of a channel."""
        with self._lock:
            record = self._records.get(channel)
            if record is None:
                return NOTHING
            names = {lease_of(member) for member in record.members}
            return Members(
                Position(record.epoch, record.offset),
                dict(record.members),
                frozenset(name for name in names if self._is_lost(name)),
            )

    def renew(self, lease: Lease, seconds: float) -> Collection[str] | None:
        """Hold a lease; ``None`` if it was not held before."""
        with self._lock:
            is_lost = self._is_lost(lease.name)
            term, _ = self._leases.get(lease.name, (lease.term, 0.0))
            if not is_lost and term > lease.term:
                return ()
            now = time.monotonic()
            self._leases = {name: kept for name, kept in self._leases.items() if kept[1] > now}
            self._leases[lease.name] = lease.term, now + seconds
            return None if is_lost else ()

    def expire(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members whose leases are lost."""
        with self._lock:
            for channel, names in leases.items():
                record = self._records.get(channel)
                if record is None:
                    continue
                known = names
                if known is None:
                    known = {lease_of(member) for member in record.members}
                lost = {name for name in known if self._is_lost(name)}
                if lost:
                    for member in [each for each in record.members if lease_of(each) in lost]:
                        self._drop(channel, member)
        self._notices.make()

    def close(self) -> None:
        """Forget all."""
        with self._lock:
            self._records.clear()
            self._leases.clear()

    def _is_lost(self, name: str) -> bool:
        return self._leases.get(name, (0, 0.0))[1] <= time.monotonic()

    def _put(self, channel: str, member: str, data: bytes) -> None:
        record = self._records.get(channel)
        if record is None:
            record = self._records[channel] = Record()
        if record.members.get(member) != data:
            record.members[member] = data
            self._tell(channel, record, MemberChange(member, data))

    def _drop(self, channel: str, member: str) -> None:
        record = self._records.get(channel)
        if record is not None and record.members.pop(member, None) is not None:
            self._tell(channel, record, MemberChange(member))

    def _tell(self, channel: str, record: Record, change: MemberChange) -> None:
        record.offset += 1
        record.used = time.monotonic()
        position = Position(record.epoch, record.offset)
        if self.deliver is not None:
            self._notices.leave(functools.partial(self.deliver, channel, change.pack(), position))

    def _forget_unused(self) -> None:
        """Forget channels that have no members, each time that there are many.

        Those that have had none for long; and where clients make up names, those that have had
        none for longest.
        """
        if len(self._records) < self._looked_at:
            return
        empty = [
            (record.used, name) for name, record in self._records.items() if not record.members
        ]
        oldest = time.monotonic() - IDLE_SECONDS
        left = len(empty)
        for used, channel in sorted(empty):
            if used >= oldest and left <= MOST_EMPTY:
                break
            del self._records[channel]
            left -= 1
        self._looked_at = max(MANY_CHANNELS, 2 * len(self._records))
