"""Who is subscribed to what in this process, and what the broker is told of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from ..connection.async_connection import AnyConnection
from ..plugin.brokers import Broker
from ..plugin.history import Position
from ..protocol.shared import SharedMessage
from .history import KeptSubscribers
from .overflow import Lossy
from .results import Subscription
from .settings import is_counted
from .subscribers import Subscribers
from .watchers import Watchers
from .wrapping import Wrapped

__all__ = ["Subscriptions"]

logger = logging.getLogger("flask_ws")

#: For channels without history.
NOTHING_MISSED = Subscription(None, recovered=True)
UNKNOWN = Subscription(None, recovered=False)


class Subscriptions:
    """The channels of this process and their subscribers. Any thread may use them.

    Publishing, and passing on what the broker brings, takes no lock. Other calls hold it for the
    tables alone, never while they call the broker, which may wait for the network. For each
    channel, one thread at a time calls the broker, with the state at that time.

    :param broker: the broker, started.
    :param prefix: goes before the channels' names there.
    :param make: makes the subscribers of a channel, of which there are none yet.
    """

    def __init__(
        self,
        broker: Broker,
        prefix: str,
        make: Callable[[str], Subscribers] = lambda _: Subscribers(),
    ) -> None:
        self._broker = broker
        self._prefix = prefix
        self._make = make
        self._lock = threading.Lock()
        # A channel is here as long as it has subscribers, or the broker is subscribed.
        self._channels: dict[str, Subscribers] = {}
        #: Returns the subscribers of a channel, if there are any.
        self.get = self._channels.get
        self._own: dict[AnyConnection, set[str]] = {}
        # Of channels that are not here any more.
        self._deliveries = self._dropped = self._gaps = 0

    def __len__(self) -> int:
        """Count the connections that are subscribed to anything."""
        return len(self._own)

    def all(self) -> list[Subscribers]:
        """Return the subscribers of each channel."""
        return list(self._channels.values())

    def count_deliveries(self) -> tuple[int, int]:
        """Count the messages for subscribers in this process: those sent, and those not sent.

        These were for subscribers that read too slowly for them.
        """
        with self._lock:
            channels = list(self._channels.values())
            sent, dropped = self._deliveries, self._dropped
        dropped += sum(subscribers.dropped for subscribers in channels)
        return sent + sum(subscribers.deliveries for subscribers in channels) - dropped, dropped

    def count_gaps(self) -> int:
        """Count how often subscribers in this process have missed messages."""
        with self._lock:
            return self._gaps + sum(subscribers.gaps for subscribers in self._channels.values())

    def connections(self) -> list[AnyConnection]:
        """Return the connections that are subscribed to anything."""
        return list(self._own)

    def add(
        self,
        connection: AnyConnection,
        channel: str,
        limit: int,
        since: Position | None = None,
        gap: SharedMessage | None = None,
        lossy: Lossy | None = None,
        wrapped: Wrapped | None = None,
    ) -> Subscription | None:
        """Subscribe a connection to a channel; returns when the broker has been told.

        :param limit: the channels that the connection may be subscribed to, at most, beside those
            of flask-ws's own.
        :param since: the position up to which it has the messages.
        :param gap: what it is sent where messages are missing.
        :param lossy: what sends it messages, if not its own sender does; or
        :param wrapped: what does so, for a channel to which it is not subscribed yet.
        :return: ``None`` if that would be one too many.
        :raises ConnectionClosed: the connection is closed.
        """
        with self._lock:
            # Under the lock: the thread that releases the connection takes it afterwards.
            connection.check_connected()
            own = self._own.get(connection, ())
            subscribers = self._channels.get(channel)
            is_new = channel not in own
            if is_new:
                if len(own) >= limit and sum(map(is_counted, own)) >= limit:
                    return None
                if subscribers is None:
                    subscribers = self._channels[channel] = self._make(channel)
                subscribers.add(connection, wrapped or lossy)
                self._own.setdefault(connection, set()).add(channel)
        assert subscribers is not None
        if not subscribers.is_told or subscribers.call is not None:
            try:
                self._tell(channel, subscribers, wait=True)
            except BaseException:
                self.remove(connection, channel)
                if not subscribers:
                    # The connection may have ended meanwhile, and have left that to this thread.
                    self._tell(channel, subscribers)
                raise
        subscription = self._begin(subscribers, connection, since, gap, wrapped, is_new=is_new)
        return subscription.counted_by(subscribers.lossy(connection))

    def _begin(
        self,
        subscribers: Subscribers,
        connection: AnyConnection,
        since: Position | None,
        gap: SharedMessage | None,
        wrapped: Wrapped | None,
        *,
        is_new: bool,
    ) -> Subscription:
        """Send a subscriber what it is sent first."""
        if isinstance(subscribers, KeptSubscribers):
            if is_new:
                return subscribers.join(connection, since, gap, wrapped)
            return subscribers.position(since)
        # Nothing is kept: what was missed is unknown.
        subscription = UNKNOWN if since is not None else NOTHING_MISSED
        if not is_new:
            return subscription
        if isinstance(subscribers, Watchers):
            subscribers.begin(connection)
            return subscription
        if since is not None:
            with self._lock:
                subscribers.gaps += 1
            if gap is not None:
                subscribers.tell(connection, gap, subscribers.lossy(connection))
        if wrapped is not None and wrapped.tell is not None:
            subscribers.tell(connection, wrapped.tell(subscription))
        return subscription

    def of(self, connection: AnyConnection) -> Collection[str]:
        """Return the channels that a connection is subscribed to; they may change."""
        return self._own.get(connection, ())

    def remove(
        self, connection: AnyConnection, channel: str, last: SharedMessage | None = None
    ) -> None:
        """End a subscription; there may be none.

        :param last: sent to the connection after the last message of the channel.
        """
        with self._lock:
            own = self._own.get(connection)
            if own is None or channel not in own:
                return
            own.remove(channel)
            if not own:
                del self._own[connection]
            subscribers = self._channels[channel]
            subscribers.remove(connection)
        if last is not None:
            subscribers.tell(connection, last)
        if not subscribers:
            self._tell(channel, subscribers)

    def forget(self, connection: AnyConnection) -> None:
        """End all subscriptions of a connection that is closed."""
        with self._lock:
            left = [(name, self._channels[name]) for name in self._own.pop(connection, ())]
            for _, subscribers in left:
                subscribers.remove(connection)
        for channel, subscribers in left:
            if not subscribers:
                self._tell(channel, subscribers)

    def _tell(self, channel: str, subscribers: Subscribers, *, wait: bool = False) -> None:
        """Subscribe the broker to a channel, or unsubscribe it, if that has changed.

        :param wait: whether to wait for another thread that is doing so. That thread also handles
            what changes meanwhile.
        """
        while True:
            with self._lock:
                call = subscribers.call
                is_wanted = bool(subscribers)
                if call is None:
                    if is_wanted == subscribers.is_told:
                        if not is_wanted and self._channels.get(channel) is subscribers:
                            self._deliveries += subscribers.deliveries
                            self._dropped += subscribers.dropped
                            self._gaps += subscribers.gaps
                            del self._channels[channel]
                        return
                    mine = subscribers.call = threading.Event()
            if call is not None:
                if not wait:
                    return
                call.wait()
                continue
            is_told = False
            try:
                if is_wanted:
                    self._broker.subscribe(self._prefix + channel)
                    subscribers.subscribed()
                    is_told = True
                else:
                    self._unsubscribe(channel)
            finally:
                with self._lock:
                    subscribers.is_told = is_told
                    subscribers.call = None
                mine.set()

    def _unsubscribe(self, channel: str) -> None:
        try:
            self._broker.unsubscribe(self._prefix + channel)
        except Exception:
            # The caller leaves the channel in any case.
            logger.exception("The broker failed to end the subscription to %r.", channel)
