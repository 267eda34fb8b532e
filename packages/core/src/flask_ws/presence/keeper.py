"""The members of this process: having the broker know them, as long as the process lives.

The members are kept here; a thread tells the broker, and tries again as long as that cannot be
reached. So the end of a connection does not wait for the network, and a process that was cut off
comes back with all of its members.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.brokers import Broker
from ..worker import Worker
from .lease import ROUND, STEADY, HeldLease, chance
from .membership import Membership

__all__ = ["Keeper", "View"]

NAME = "flask_ws.Presence"
#: Members that are put or dropped at once; and channels that are tried though others have failed.
MANY = 500
MANY_FAILURES = 100
#: Seconds that joining waits for the broker, at most.
PATIENCE = 2.0
#: Seconds from one attempt to reach the broker to the next, the first time and at most.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
#: The shortest lease, in seconds, of a process that ends.
SHORTEST = 0.001


class View(Protocol):
    """Who watches the members of a channel in this process."""

    @property
    def name(self) -> str:
        """The channel's name at the broker."""

    def leases(self) -> Collection[str]:
        """Return the names of the leases that its members depend on."""

    def interrupt(self) -> None:
        """Read the members again: changes may be missing."""


class Keeper:
    """The members of an app in this process. Any thread may use it.

    :param broker: the broker, which tracks presence.
    :param prefix: goes before the channels' names there.
    :param lease: the name of this process's lease.
    :param grace: the seconds for which a member stays whose connection has ended.
    :param seconds: those for which members may outlive their process; infinite where they cannot.
    """

    def __init__(
        self, broker: Broker, prefix: str, lease: str, *, grace: float, seconds: float
    ) -> None:
        #: The broker.
        self.broker = broker
        self._prefix = prefix
        #: The seconds for which members may outlive their process.
        self.seconds = seconds
        self._grace = grace
        self._lease = HeldLease(broker, lease, seconds)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        # The members of connections that are open; all that the broker has or is to have; and those
        # of which it has to be told.
        self._own: dict[AnyConnection, dict[str, Membership]] = {}
        self._members: dict[str, dict[str, Membership]] = {}
        self._changed: dict[Membership, None] = {}
        # Those whose connections have ended: when their time is over.
        self._ended: list[tuple[float, int, Membership]] = []
        #: Who watches.
        self.views: set[View] = set()
        self._is_closed = False
        self._wake = threading.Event()
        self._worker = Worker(NAME, self._run, self._has_work)
        # What follows belongs to the thread that holds this: it calls the broker.
        self._working = threading.Lock()
        self._worker_id: int | None = None
        # Whether a put may still arrive at the broker that was not answered.
        self._is_unsure = False
        self._pause = FIRST_PAUSE
        # After the broker was away: who came back in another process may not be known there yet.
        self._none_leaves_before = 0.0

    # What connections do

    def join(self, connection: AnyConnection, channel: str, data: bytes, limit: int) -> bool:
        """Have a connection be a member of a channel; returns when the broker knows, or is away.

        :param data: what the broker keeps of it.
        :param limit: the channels that it may join, at most.
        :return: ``False`` if that would be one too many.
        :raises ConnectionClosed: the connection is closed.
        """
        with self._lock:
            # Under the lock: the thread that releases the connection takes it afterwards.
            connection.check_connected()
            own = self._own.get(connection)
            member = None if own is None else own.get(channel)
            if member is None:
                if own is not None and len(own) >= limit:
                    return False
                name = f"{self._lease.current.name}.{next(self._numbers)}"
                member = Membership(name, channel, data)
                self._own.setdefault(connection, {})[channel] = member
                self._members.setdefault(channel, {})[member.id] = member
            elif member.data == data:
                return True
            member.data, member.is_confirmed = data, False
            self._changed[member] = None
            event = member.wait()
        self._have_told(event)
        return True

    def leave(self, connection: AnyConnection, channel: str) -> None:
        """Have a connection be a member no more, at once; it need not be one."""
        with self._lock:
            own = self._own.get(connection, {})
            member = own.pop(channel, None)
            if member is None:
                return
            if not own:
                del self._own[connection]
            event = member.wait()
            self._drop(member)
        self._have_told(event)

    def forget(self, connection: AnyConnection) -> None:
        """Have a connection that has ended be no member any more, after the grace."""
        with self._lock:
            own = self._own.pop(connection, None)
            if own is None:
                return
            due = time.monotonic() + self._grace
            for member in own.values():
                member.has_ended = True
                if self._grace:
                    heapq.heappush(self._ended, (due, next(self._numbers), member))
                else:
                    self._drop(member)
        if self._is_local:
            self._tell_now()
        self.start()

    def _drop(self, member: Membership) -> None:
        member.is_wanted = False
        if member.is_put:
            self._changed[member] = None
        else:
            # The broker was away: there may be many of them by the time that it is back.
            self._changed.pop(member, None)
            self._remove(member)

    def _remove(self, member: Membership) -> None:
        members = self._members.get(member.channel, {})
        if members.pop(member.id, None) is not None and not members:
            del self._members[member.channel]
        member.settle()

    def of(self, connection: AnyConnection) -> Collection[str]:
        """Return the channels that a connection is a member of; they may change."""
        return self._own.get(connection, ())

    def __len__(self) -> int:
        """Count the members of this process, each for each channel."""
        with self._lock:
            return sum(len(own) for own in self._own.values())

    # Having the broker told

    @property
    def _is_local(self) -> bool:
        return self.seconds == math.inf

    def _have_told(self, event: threading.Event) -> None:
        if self._is_local:
            self._tell_now()
            return
        self.start()
        # A broker's own thread may end a connection, whose end may have another one leave.
        if threading.get_ident() != self._worker_id:
            event.wait(PATIENCE)

    def _tell_now(self) -> None:
        """Tell the broker in this thread, unless another one does: it never waits."""
        while self._changed and self._working.acquire(False):
            try:
                # The broker is closed: the process ends.
                with contextlib.suppress(BrokerError):
                    self._tell()
            finally:
                self._working.release()

    def start(self) -> None:
        """Have the thread work; also after the broker was away."""
        self._wake.set()
        if self._has_work():
            # Where the system has no thread for it, the next call tries again.
            with contextlib.suppress(RuntimeError):
                self._worker.start()

    def doubt(self) -> None:
        """Take note that the broker is away: leases may run out."""
        self._lease.doubt()

    def _has_work(self) -> bool:
        if self._is_closed:
            return False
        is_remote = not self._is_local
        return bool(self._ended or self._changed or (is_remote and (self._members or self.views)))

    def _run(self) -> None:
        self._wake.clear()
        pause = self.turn()
        if self._has_work():
            self._wake.wait(pause)

    def turn(self) -> float:
        """Do what there is to do, on the thread.

        :return: the seconds after which there may be more.
        """
        with self._working:
            if self._is_closed:
                return 0.0
            self._worker_id = threading.get_ident()
            try:
                self._do_all()
            except BrokerError as error:
                return self._fail(error)
            finally:
                self._worker_id = None
            self._pause = FIRST_PAUSE
            due = math.inf if self._is_local else self._lease.next_round
            if self._ended:
                due = min(due, max(self._ended[0][0], self._none_leaves_before))
        if self._is_local:
            # Who changed something meanwhile has left it to this thread.
            self._tell_now()
        # An event cannot wait for ever.
        return max(0.0, min(due - time.monotonic(), 3600.0))

    def _do_all(self) -> None:
        while True:
            self._end_graces()
            if self._changed:
                self._tell()
            # Each time: where many come and go, there is always more to tell.
            if not self._is_local and time.monotonic() >= self._lease.next_round:
                self._look_after()
            if not self._changed:
                return

    def _end_graces(self) -> None:
        now = time.monotonic()
        if now < self._none_leaves_before:
            return
        with self._lock:
            while self._ended and self._ended[0][0] <= now:
                self._drop(heapq.heappop(self._ended)[2])

    def _fail(self, error: BrokerError) -> float:
        self._lease.doubt()
        # Others may take longer to come back to the broker.
        grace = max(self._grace, self.seconds * STEADY) if self._grace else 0.0
        self._none_leaves_before = due = time.monotonic() + grace
        with self._lock:
            for member in list(self._changed):
                member.settle()
                if member.has_ended:
                    del self._changed[member]
                    heapq.heappush(self._ended, (due, next(self._numbers), member))
        if not self.broker.is_away:
            self.broker.went_away(str(error))
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause * chance.uniform(0.5, 1)

    def _tell(self) -> None:
        """Tell the broker what has changed; some of it later, if that takes long.

        :raises BrokerError: it cannot be reached.
        """
        with self._lock:
            changed, self._changed = self._changed, {}
        # The lease has to be renewed in between.
        end = time.monotonic() + self.seconds * ROUND
        by_channel: dict[str, list[Membership]] = {}
        for member in changed:
            by_channel.setdefault(member.channel, []).append(member)
        errors: list[BrokerError] = []
        try:
            if self._is_unsure:
                # What was not answered is refused from now on.
                self._lease.begin_term()
                with _collecting(errors):
                    self._renew(self._names())
                    self._is_unsure = False
            for channel, members in list(by_channel.items()):
                # Each by itself: a cluster has its channels at several servers.
                with _collecting(errors):
                    if self._is_unsure:
                        # It may be refused at this one's server.
                        self._renew([self._prefix + channel])
                    while members:
                        self._change(channel, members[:MANY])
                        del members[:MANY]
                    del by_channel[channel]
                if time.monotonic() >= end or len(errors) > MANY_FAILURES:
                    break
        finally:
            if by_channel:
                left = [member for members in by_channel.values() for member in members]
                with self._lock:
                    # Behind others, which may be at servers that can be reached.
                    self._changed = {**self._changed, **dict.fromkeys(left)}
        if errors:
            raise errors[0]

    def _change(self, channel: str, members: Iterable[Membership]) -> None:
        name = self._prefix + channel
        with self._lock:
            put = {member: member.data for member in members if member.is_wanted}
            dropped = [member for member in members if not member.is_wanted]
            for member in put:
                member.is_put = True
        ids = [member.id for member in dropped if member.is_put]
        if put or ids:
            is_held = self._put(name, put, ids)
            if put and not is_held:
                self._renew([name])
                if not self._put(name, put, ()):
                    raise BrokerError("The broker does not hold the lease that it was given.")
        with self._lock:
            for member in dropped:
                self._remove(member)
            for member, data in put.items():
                if member.data == data and member.is_wanted:
                    member.is_confirmed = True
                    member.settle()

    def _put(self, name: str, put: Mapping[Membership, bytes], dropped: Collection[str]) -> bool:
        was_unsure, self._is_unsure = self._is_unsure, self._is_unsure or bool(put)
        data = {member.id: data for member, data in put.items()}
        is_held = self.broker.change_members(name, self._lease.current, data, dropped)
        self._is_unsure = was_unsure
        return is_held

    # The lease

    def _names(self) -> set[str]:
        """Return the names of the channels that this process has to do with."""
        with self._lock:
            names = {self._prefix + channel for channel in self._members}
        return names.union(view.name for view in list(self.views))

    def _renew(self, names: Collection[str]) -> None:
        """Renew the lease; what may have been lost with it is to be put, and read, again."""
        lost, number = self._lease.renew(names), 0
        with self._lock:
            for channel, members in self._members.items():
                if lost is None or self._prefix + channel in lost:
                    number += self._put_again(members.values())
        if lost is None or number:
            # The broker was away, or has lost something.
            self._lease.doubt()
            if self._lease.was_renewed:
                self._interrupt(list(self.views))

    def _put_again(self, members: Iterable[Membership]) -> int:
        again = [member for member in members if member.is_confirmed and member.is_wanted]
        for member in again:
            member.is_confirmed = False
            self._changed[member] = None
        return len(again)

    def _look_after(self) -> None:
        """Renew the lease, and drop the members of other processes whose leases have run out.

        :raises BrokerError: the broker cannot be reached.
        """
        now, names = time.monotonic(), self._names()
        if not names:
            return
        self._renew(names)
        self._lease.note_reached(now)
        leases: dict[str, Collection[str] | None] = {
            view.name: view.leases() for view in list(self.views)
        }
        leases |= dict.fromkeys(self._put_due_again(now))
        self._lease.expire(leases, now)

    def _put_due_again(self, now: float) -> list[str]:
        """Have members put again, and views read them, where it is time; returns the channels."""
        due = self._lease.take_due(self._names(), now)
        with self._lock:
            for name in due:
                self._put_again(self._members.get(name[len(self._prefix) :], {}).values())
        self._interrupt([view for view in list(self.views) if view.name in due])
        return due

    @staticmethod
    def _interrupt(views: list[View]) -> None:
        for view in views:
            view.interrupt()

    def close(self) -> None:
        """Leave the members to what is left of their lease: the grace."""
        self._is_closed = True
        self._wake.set()
        # What the thread does is over then, or the broker is away.
        is_mine = self._working.acquire(timeout=PATIENCE)
        try:
            if self._members and not self._is_local:
                with contextlib.suppress(BrokerError):
                    self._lease.shorten(max(self._grace, SHORTEST), self._names())
        finally:
            if is_mine:
                self._working.release()


@contextlib.contextmanager
def _collecting(errors: list[BrokerError]) -> Iterator[None]:
    """Add to these what the broker raises."""
    try:
        yield
    except BrokerError as error:
        errors.append(error)
