"""What is sent to a connection that has to be told which channel a message belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..connection.async_connection import AnyConnection
from ..protocol.shared import SharedMessage
from .results import Subscription

__all__ = ["Wrapped", "ready"]


class Wrapped:
    """Sends a subscriber the messages of one channel, in place of its connection's sender.

    :param connection: the connection.
    :param wrap: makes the message to send of one that was published.
    :param tell: makes the message to send when the connection is subscribed: after what it had
        missed, and before what comes then; ``None`` for none.
    """

    __slots__ = ("_sender", "_wrap", "tell")

    def __init__(
        self,
        connection: AnyConnection,
        wrap: Callable[[SharedMessage], SharedMessage],
        tell: Callable[[Subscription], SharedMessage] | None = None,
    ) -> None:
        self._sender: Any = connection.sender
        self._wrap = wrap
        self.tell = tell

    def send_shared(self, message: SharedMessage) -> bool:
        """Send a message without waiting; must be called in the home thread.

        :return: ``False`` if :meth:`overflow` must follow.
        """
        return bool(self._sender.send_shared(message.wrapped or self._wrap(message)))

    def queue_shared(self, message: SharedMessage) -> bool:
        """Send a message with the next that are flushed; otherwise the same."""
        return bool(self._sender.queue_shared(message.wrapped or self._wrap(message)))

    def overflow(self) -> None:
        """End the connection: its client reads too slowly."""
        self._sender.overflow()


def ready(message: SharedMessage) -> SharedMessage:
    """Return a message that is sent to everybody as it is."""
    message.wrapped = message
    return message
