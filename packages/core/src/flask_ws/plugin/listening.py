"""ListeningBroker: a broker with one server, and one connection to listen on."""

from __future__ import annotations

import threading

from .brokers import Broker
from .health import BrokerHealth
from .listener import BrokerListener, BrokerWish

__all__ = ["ListeningBroker"]


class ListeningBroker(Broker):
    """A broker whose messages arrive on one :class:`BrokerListener`, from one server.

    The listener is made at the first subscription. A plugin derives from this class where its
    broker is one server, and brings everything back to all processes in one order.
    """

    brings_back = True

    def __init__(self) -> None:
        super().__init__()
        self._listening = threading.Lock()
        self._listener: BrokerListener | None = None

    def make_listener(self) -> BrokerListener:
        """Make the listener; called once, at the first subscription."""
        raise NotImplementedError

    def make_health(self, name: str) -> BrokerHealth:
        """Make what knows whether the server can be reached; for :meth:`Broker.start`.

        :param name: names the server in errors and logs, without passwords.
        """
        return BrokerHealth(name, super().went_away, self.came_back)

    def subscribe(self, channel: str) -> None:
        """Subscribe; returns when the server has confirmed it, or is away.

        :param channel: the channel.
        :raises ValueError: it has no UTF-8.
        """
        channel.encode()
        with self._listening:
            if self._listener is None:
                self._listener = self.make_listener()
            listener = self._listener
        wish = BrokerWish()
        listener.subscribe(channel, wish)
        try:
            wish.wait()
        except BaseException:
            # Such as a greenlet's timeout: for the caller, nothing is subscribed.
            listener.unsubscribe(channel)
            raise

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe.

        :param channel: the channel.
        """
        if self._listener is not None:
            self._listener.unsubscribe(channel)

    def is_deaf(self, channel: str) -> bool:
        """Tell whether the server does not send this process what is published on a channel.

        :param channel: the channel.
        """
        listener = self._listener
        return listener is None or listener.is_deaf(channel)

    def went_away(self, reason: str) -> None:
        """Do nothing: the failed call has reported it, and the server may be back since.

        :param reason: what happened.
        """

    def close(self) -> None:
        """Disconnect, and end the listener's thread."""
        with self._listening:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
