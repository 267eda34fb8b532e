"""``memory://``: the broker of a process that shares its channels with no other."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from ..budget import STEP, budget
from ..exceptions import BrokerError
from .brokers import Broker, Deliver
from .history import History, Position, Retention

__all__ = ["MemoryBroker"]

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

    __slots__ = ("epoch", "messages", "offset", "published", "used")

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.offset = 0
        #: When each was published, its offset, and its payload.
        self.messages: deque[tuple[float, int, bytes]] = deque()
        #: When something was last published, and when it was last used, by the monotonic clock.
        self.published = self.used = 0.0


class MemoryBroker(Broker):
    """``memory://``: there are no other processes."""

    keeps_history = True

    def __init__(self) -> None:
        super().__init__()
        self._closed = False
        # A signal's handler may publish while its thread holds it.
        self._lock = threading.RLock()
        # In the order of their last use.
        self._logs: OrderedDict[str, Log] = OrderedDict()
        # Those with messages, by the seconds for which they keep them, in the order of their last
        # publication.
        self._filled: dict[float, OrderedDict[Log, None]] = {}
        self._size = self._counted = 0
        self._process = os.getpid()

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
        """Take note of where kept messages go."""
        self._deliver = deliver

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
        with self._lock:
            log = self._open(channel)
            log.offset += 1
            position = Position(log.epoch, log.offset)
            log.published = log.used
            log.messages.append((log.used, log.offset, payload))
            self._size += len(payload) + OVERHEAD
            filled = self._filled.setdefault(retention.seconds, OrderedDict())
            filled[log] = None
            filled.move_to_end(log)
            while len(log.messages) > retention.messages:
                self._drop(log)
            self._drop_until(log, log.used - retention.seconds)
            self._trim(log.used)
        self._deliver(channel, payload, position)
        return position

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Return what is kept, and the position now.

        :param channel: the channel.
        :param retention: how much is kept.
        :param since: what came before it is left out.
        :raises BrokerError: the broker is closed.
        """
        with self._lock:
            log = self._open(channel)
            self._drop_until(log, log.used - retention.seconds)
            self._trim(log.used)
            position = Position(log.epoch, log.offset)
            if since is None:
                return History(position, [])
            after = since.offset if since.epoch == log.epoch else 0
            missed = [(offset, payload) for _, offset, payload in log.messages if offset > after]
            return History(position, missed)

    def close(self) -> None:
        """Drop all that is kept."""
        with self._lock:
            self._closed = True
            self._logs.clear()
            self._filled.clear()
            self._size = 0
            self._count()

    def _open(self, channel: str) -> Log:
        if self._closed:
            raise BrokerError("The broker is closed.")
        log = self._logs.get(channel)
        if log is None:
            log = self._logs[channel] = Log(os.urandom(8).hex())
        else:
            self._logs.move_to_end(channel)
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

        So every message is dropped in its time, or as long after it, at a call for any channel.
        """
        for seconds, filled in list(self._filled.items()):
            while filled and (log := next(iter(filled))).published <= now - seconds:
                self._drop_until(log, now)
                del filled[log]
            if not filled:
                del self._filled[seconds]
        limit = budget.limit
        while limit is not None and self._size > limit * SHARE:
            filled = min(self._filled.values(), key=lambda filled: next(iter(filled)).published)
            log = next(iter(filled))
            if log.messages:
                self._drop(log)
            else:
                del filled[log]
                self._filled = {key: logs for key, logs in self._filled.items() if logs}
        while self._logs:
            channel, log = next(iter(self._logs.items()))
            if log.used > now - IDLE_SECONDS and len(self._logs) <= MAX_CHANNELS:
                break
            self._drop_until(log, now)
            del self._logs[channel]
        self._count()

    def _count(self) -> None:
        """Have the budget know, in steps."""
        change = self._size - self._counted
        if abs(change) >= STEP or not self._size:
            self._counted = self._size
            if change:
                budget.change(None, change)
