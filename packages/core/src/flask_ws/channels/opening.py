"""What an app opens when it first publishes or subscribes: its broker, and what it keeps there."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import logging
import math
import os
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from ..exceptions import BrokerError
from ..once import NotYetError, Once
from ..plugin.brokers import Broker
from ..plugin.manager import plugins
from ..plugin.memory import MemoryBroker
from ..plugin.used import Used
from ..presence.keeper import Keeper
from ..presence.lease import STEADY
from ..process import after_fork
from .census import Census
from .healing import Healer
from .history import KeptSubscribers
from .publication import ORIGIN_SIZE
from .receiving import Receiver
from .settings import PRESENCE, FindRetention, read_broker, read_history, read_presence
from .source import Source
from .subscribers import Subscribers
from .subscriptions import Subscriptions
from .watchers import Watched, Watchers

__all__ = ["Opened", "Opening", "close_brokers"]

logger = logging.getLogger("flask_ws")

#: Characters that are not quoted in the name of a lease.
PLAIN = string.punctuation.replace("%", "")


class Opened(NamedTuple):
    """What an app has in this process once it has published or subscribed."""

    broker: Broker
    prefix: str
    #: Identifies this process to the others.
    origin: bytes
    subscriptions: Subscriptions
    #: The numbers of its publications, each greater than those before it.
    numbers: Iterator[int]
    #: What is kept of a channel; ``None`` if nothing is of any.
    find_retention: FindRetention | None
    #: Asks other processes; ``None`` where there are none.
    census: Census | None
    #: What was used once in this process, where the broker cannot tell.
    used: Used
    #: The members of this process, and the broker that knows those of others.
    keeper: Keeper

    def close(self) -> None:
        """Disconnect from the broker."""
        self.keeper.close()
        if _open.pop(self.broker, None) is not None:
            self.broker.close()


class Opening(Once[Opened]):
    """Opens an app's broker when it is first needed. Any thread may ask.

    :param config: the app's configuration.
    :param on_change: as for :class:`Channels`.
    """

    def __init__(
        self, config: Mapping[str, Any], on_change: Callable[[str | None], object] | None
    ) -> None:
        super().__init__(functools.partial(open_channels, config, on_change))
        self._config = config
        self._has_warned = False

    @property
    def is_local(self) -> bool:
        """Whether nothing here waits for a broker."""
        if self.made is not None:
            return isinstance(self.made.broker, MemoryBroker)
        # To open it would be to wait.
        return read_broker(self._config)[0].startswith("memory:")

    def get(self, *, alone: bool = True) -> Opened:
        """Open the broker, unless it is open.

        :param alone: whether the server of the connection that needs it runs no other processes.
        """
        try:
            opened = super().get()
        except NotYetError:
            # A log handler publishes or subscribes while the broker is being opened.
            raise BrokerError("The broker is being opened.") from None
        if not alone and isinstance(opened.broker, MemoryBroker):
            self._warn(
                "The server runs several processes, and SOCK_BROKER_URL is memory://: what one "
                "of them publishes does not reach the subscribers in the others. Set it to a "
                "broker that they share, such as redis:// of flask-ws[redis]."
            )
        return opened

    def use_once(self, key: str, seconds: float, *, alone: bool) -> bool:
        """Take note that something is used, as :meth:`Channels.use_once` does."""
        opened = self.get(alone=alone)
        broker, name = opened.broker, opened.prefix + key
        if broker.uses_once:
            return broker.use_once(name, seconds)
        self._warn(
            "The broker, %s, cannot tell what is used for the first time: a ticket may be used "
            "once in each process.",
            type(broker).__name__,
        )
        return opened.used.use(name, seconds)

    def _warn(self, text: str, *args: object) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(text, *args)


def open_channels(
    config: Mapping[str, Any], on_change: Callable[[str | None], object] | None
) -> Opened:
    """Connect an app to its broker.

    :param config: the app's configuration.
    :param on_change: as for :class:`Channels`.
    """
    url, prefix = read_broker(config)
    find_retention = read_history(config)
    broker = plugins.open_broker(url)
    if find_retention is not None and not broker.keeps_history:
        find_retention = None
        logger.warning(
            "SOCK_HISTORY has no effect: the broker, %s, keeps no history.",
            type(broker).__name__,
        )
    in_memory = isinstance(broker, MemoryBroker)
    if in_memory:
        # No other app has it.
        prefix = ""
    healer = Healer()
    keeper = _make_keeper(config, broker, prefix)
    origin, numbers = os.urandom(ORIGIN_SIZE), itertools.count()
    make = functools.partial(
        _make_subscribers, broker, prefix, origin, find_retention, healer, keeper
    )
    subscriptions = Subscriptions(broker, prefix, make)
    census = None if in_memory else Census(broker, prefix, origin, numbers, subscriptions)
    receiver = Receiver(prefix, origin, subscriptions, census)
    broker.on_interruption = receiver.interrupted
    broker.on_change = functools.partial(_change, healer, keeper, on_change)
    broker.start(receiver.receive)
    if keeper.broker is not broker:
        keeper.broker.start(receiver.receive)
    if not in_memory:
        _open[broker] = keeper
    return Opened(
        broker, prefix, origin, subscriptions, numbers, find_retention, census, Used(), keeper
    )


def _make_keeper(config: Mapping[str, Any], broker: Broker, prefix: str) -> Keeper:
    """Make what keeps the members of this process at the broker, or in memory."""
    grace, seconds = read_presence(config)
    if not broker.tracks_presence:
        # The process knows its own.
        broker = MemoryBroker()
    if isinstance(broker, MemoryBroker):
        # It ends with the process.
        seconds = math.inf
    # No spaces, and nothing but ASCII.
    lease = f"{quote(prefix, safe=PLAIN)}lease:{os.urandom(8).hex()}"
    return Keeper(broker, prefix + PRESENCE, lease, grace=grace, seconds=seconds)


def _make_watchers(
    broker: Broker, prefix: str, healer: Healer, keeper: Keeper, channel: str
) -> Watchers:
    """Make the object for those who watch the members of a channel."""
    name = prefix + channel
    in_memory = isinstance(keeper.broker, MemoryBroker)
    return Watchers(
        Watched(
            channel[len(PRESENCE) :],
            name,
            functools.partial(keeper.broker.read_members, name),
            (lambda: True) if in_memory else (lambda: not broker.is_deaf(name)),
            _heal_now if in_memory else healer.add,
            keeper,
            keeper.seconds * STEADY,
        )
    )


def _change(
    healer: Healer,
    keeper: Keeper,
    on_change: Callable[[str | None], object] | None,
    reason: str | None,
) -> None:
    """Handle that the broker has gone away, or is back."""
    if reason is None:
        healer.wake()
        keeper.start()
    else:
        keeper.doubt()
    if on_change is not None:
        on_change(reason)


def _make_subscribers(
    broker: Broker,
    prefix: str,
    origin: bytes,
    find_retention: FindRetention | None,
    healer: Healer,
    keeper: Keeper,
    channel: str,
) -> Subscribers:
    """Make the object for the subscribers of a channel, with history or without."""
    if channel.startswith(PRESENCE):
        return _make_watchers(broker, prefix, healer, keeper, channel)
    retention = None if find_retention is None else find_retention(channel)
    if retention is None:
        return Subscribers()
    name = prefix + channel
    in_memory = isinstance(broker, MemoryBroker)
    return KeptSubscribers(
        Source(
            channel,
            origin,
            functools.partial(broker.read_history, name, retention),
            (lambda: True) if in_memory else (lambda: not broker.is_deaf(name)),
            # Memory does not wait: when publish() returns, its message has been sent.
            _heal_now if in_memory else healer.add,
            healer.note_gap,
        )
    )


def _heal_now(subscribers: KeptSubscribers | Watchers) -> None:
    # The broker has been closed: the process ends.
    with contextlib.suppress(BrokerError):
        subscribers.heal()


_open: dict[Broker, Keeper] = {}


def close_brokers() -> None:
    """Disconnect, at the end of the process."""
    while _open:
        broker, keeper = _open.popitem()
        try:
            keeper.close()
            broker.close()
        except Exception:
            logger.exception("Closing the broker failed.")


# Registered before the monitor's exit function, so called after it: on_close() may publish.
atexit.register(close_brokers)
after_fork(_open.clear)
