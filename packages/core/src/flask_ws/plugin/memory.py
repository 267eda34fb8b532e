"""``memory://``: the broker of a process that shares its channels with no other."""

from __future__ import annotations

import heapq
import itertools
import math
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping

from ..budget import STEP, budget
from ..exceptions import BrokerError
from .brokers import Broker, Deliver
from .history import History, Position, Retention
from .members import MemberTable
from .presence import Lease, Members
from .used import Used

__all__ = ["MemoryBroker"]

#: Makes a position; each publication needs one, and this takes half the time.
new_position = tuple.__new__

#: Seconds after its last use for which the position of an empty channel is known, and the most
#: such channels. A client that comes back later is told of a gap.
IDLE_SECONDS = 86400.0
MAX_CHANNELS = 100_000
#: The part of SOCK_MAX_BUFFERED that messages may take, all channels together. The oldest go.
SHARE = 1 / 4
#: Bytes that a message takes beside its payload, about.
OVERHEAD = 200


class Log:
    """The history of one channel.

    :param epoch: its epoch.
    """

    __slots__ = ("epoch", "is_filled", "messages", "offset", "used")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        #: When each was published, its offset, and its payload.
        self.messages: deque[tuple[float, int, bytes]] = deque()
        #: Whether it waits for its messages to be too old.
        self.is_filled = False
        #: When it was last used, by the monotonic clock.
        self.used = 0.0


class MemoryBroker(Broker):
    """``memory://``: there are no other processes."""

    keeps_history = True
    uses_once = True
    tracks_presence = True

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        #: Held by who calls :meth:`keep`, until the message has its place among what is passed on:
        #: so that is in the order of positions. A signal's handler may publish while its thread
        #: holds it.
        self.keeping = threading.RLock()
        # In the order of their last use.
        self._logs: OrderedDict[str, Log] = OrderedDict()
        # Those with messages, by the seconds for which they keep them: heaps, in which each is
        # where its oldest message was when it was last looked at. And when to look again.
        self._filled: dict[float, list[tuple[float, int, Log]]] = {}
        self._due = math.inf
        self._numbers = itertools.count()
        self._size = self._counted = 0
        #: Whether :meth:`count` is to be called.
        self.is_due = False
        self._process = os.getpid()
        self._used = Used()
        self._members = MemberTable()

    # Bound here: at interpreter shutdown the module's globals may be gone.
    def __del__(
        self,
        forget: Callable[[int], object] = budget.forget,
        getpid: Callable[[], int] = os.getpid,
    ) -> None:
        """Have the budget forget what an app without a process-wide end has kept."""
        # In a child after a fork the budget has begun anew.
        if self._counted and self._process == getpid():
            forget(self._counted)

    def start(self, deliver: Deliver) -> None:
        """Take note of where kept messages and changes of members go."""
        self._deliver = deliver
        self._members.deliver = deliver

    def publish(self, channel: str, payload: bytes) -> None:
        """Do nothing."""

    def subscribe(self, channel: str) -> None:
        """Do nothing."""

    def unsubscribe(self, channel: str) -> None:
        """Do nothing."""

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Keep a message, and deliver it.

        :param channel: the channel.
        :param payload: the message.
        :param retention: how much is kept.
        :return: its position.
        :raises BrokerError: the broker is closed.
        """
        with self.keeping:
            position = self.keep(channel, payload, retention)
        self.count()
        self._deliver(channel, payload, position)
        return position

    def keep(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Keep a message; :attr:`keeping` is held, and :meth:`count` follows if it is due.

        :param channel: the channel.
        :param payload: the message.
        :param retention: how much is kept.
        :return: its position.
        :raises BrokerError: the broker is closed.
        """
        log = self._logs.get(channel) or self._open(channel)
        now = log.used = time.monotonic()
        messages = log.messages
        log.offset = offset = log.offset + 1
        messages.append((now, offset, payload))
        size = self._size + len(payload)
        if not log.is_filled:
            log.is_filled = True
            heap = self._filled.setdefault(retention.seconds, [])
            heapq.heappush(heap, (now, next(self._numbers), log))
            self._due = min(self._due, now + retention.seconds)
        if len(messages) > retention.messages:
            # The setting is the same each time: never more than one.
            size -= len(messages.popleft()[2])
        else:
            size += OVERHEAD
        self._size = size
        if now >= self._due or not -STEP < size - self._counted < STEP:
            self.is_due = True
            self._trim(now)
        return new_position(Position, (log.epoch, offset))

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Return what is kept, and the position now.

        :param channel: the channel.
        :param retention: how much is kept.
        :param since: what came before it is left out.
        :raises BrokerError: the broker is closed.
        """
        with self.keeping:
            log = self._open(channel)
            self._drop_until(log, log.used - retention.seconds)
            self._trim(log.used)
            position = Position(log.epoch, log.offset)
            missed = []
            if since is not None:
                after = since.offset if since.epoch == log.epoch else 0
                missed = [
                    (number, payload) for _, number, payload in log.messages if number > after
                ]
        self.count()
        return History(position, missed)

    def use_once(self, key: str, seconds: float) -> bool:
        """Take note that something is used; ``True`` for the first time.

        :param key: what is used.
        :param seconds: for how long to remember it.
        """
        return self._used.use(key, seconds)

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members into a channel, and drop others.

        :param channel: the channel.
        :param lease: what those that are put depend on.
        :param put: their data.
        :param dropped: who is dropped.
        :return: whether the lease is held.
        """
        return self._members.change(channel, lease, put, dropped)

    def read_members(self, channel: str) -> Members:
        """Return the members of a channel.

        :param channel: the channel.
        """
        return self._members.read(channel)

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str] | None:
        """Hold a lease, for all channels.

        :param lease: the lease.
        :param seconds: for how long.
        :param channels: ignored.
        :return: ``None`` if it was not held before.
        """
        return self._members.renew(lease, seconds)

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members whose leases are lost.

        :param leases: those that have members, by channel.
        """
        self._members.expire(leases)

    def close(self) -> None:
        """Drop all that is kept."""
        self._members.close()
        with self.keeping:
            self._closed = True
            self._logs.clear()
            self._filled.clear()
            self._size = 0
        self.count()

    def count(self) -> None:
        """Have the budget know what is kept, in steps. That may end connections."""
        with self.keeping:
            self.is_due = False
            change = self._size - self._counted
            if -STEP < change < STEP and self._size:
                return
            self._counted = self._size
        if change:
            budget.change(None, change)

    def _open(self, channel: str) -> Log:
        log = self._logs.get(channel)
        if log is not None:
            self._logs.move_to_end(channel)
        elif self._closed:
            raise BrokerError("The broker is closed.")
        else:
            log = self._logs[channel] = Log(os.urandom(8).hex())
        log.used = time.monotonic()
        return log

    def _drop(self, log: Log) -> None:
        _, _, payload = log.messages.popleft()
        self._size -= len(payload) + OVERHEAD

    def _drop_until(self, log: Log, time_: float) -> None:
        while log.messages and log.messages[0][0] <= time_:
            self._drop(log)

    def _trim(self, now: float) -> None:
        """Drop what is too old where nothing is published, and what is too much, the oldest first.

        So every message is dropped in its time, or soon after it, at a call for any channel.
        """
        self._due = math.inf
        for seconds, heap in list(self._filled.items()):
            while heap and heap[0][0] <= now - seconds:
                self._drop_until(heap[0][2], now - seconds)
                self._look_again(heap)
            if heap:
                # Not each time that one message is too old, where many are published.
                self._due = min(self._due, max(heap[0][0] + seconds, now + seconds / 16))
            else:
                del self._filled[seconds]
        limit = budget.limit
        while limit is not None and self._size > limit * SHARE:
            heap = min(self._filled.values())
            began, _, log = heap[0]
            if log.messages and log.messages[0][0] == began:
                self._drop(log)
            self._look_again(heap)
            if not heap:
                self._filled = {key: heap for key, heap in self._filled.items() if heap}
        while self._logs:
            channel, log = next(iter(self._logs.items()))
            if log.used > now - IDLE_SECONDS and len(self._logs) <= MAX_CHANNELS:
                break
            self._drop_until(log, now)
            del self._logs[channel]

    @staticmethod
    def _look_again(heap: list[tuple[float, int, Log]]) -> None:
        """Put the first of those with messages where its oldest message is now."""
        _, number, log = heap[0]
        if log.messages:
            heapq.heapreplace(heap, (log.messages[0][0], number, log))
        else:
            log.is_filled = False
            heapq.heappop(heap)
