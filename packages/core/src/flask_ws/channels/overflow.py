"""What a subscriber gets that reads too slowly: ``ws.subscribe(overflow=...)``."""

from __future__ import annotations

import logging
from typing import Any

from ..connection.async_connection import AnyConnection
from ..connection.outbox import Slot
from ..protocol.shared import SharedMessage

__all__ = ["CLOSE", "Lossy", "count_dropped", "make_lossy"]

logger = logging.getLogger("flask_ws")

CLOSE = "close"


class Lossy:
    """Sends a subscriber the messages of one channel, in place of its connection's sender.

    It sends less to a client that reads too slowly, and does not end the connection for that.

    :param connection: the connection.
    :param channel: the channel, for the log.
    :param gap: what the client is sent where messages are missing.
    """

    __slots__ = ("_channel", "_gap", "_label", "_sender", "dropped")

    def __init__(self, connection: AnyConnection, channel: str, gap: SharedMessage | None) -> None:
        self._sender: Any = connection.sender
        self._label = connection.label
        self._channel = channel
        self._gap = gap
        #: Messages that it was not sent.
        self.dropped = 0

    def send_shared(self, message: SharedMessage) -> bool:
        """Send a message without waiting; must be called in the home thread.

        :return: ``False`` if :meth:`overflow` must follow.
        """
        return self._send(message, now=True)

    def queue_shared(self, message: SharedMessage) -> bool:
        """Send a message with the next that are flushed; otherwise the same."""
        return self._send(message, now=False)

    def _send(self, message: SharedMessage, *, now: bool) -> bool:
        raise NotImplementedError

    def overflow(self) -> None:
        """Log that messages are not sent."""


class Latest(Lossy):
    """Of those that have not been sent, only the newest is."""

    __slots__ = ("_slot",)

    def __init__(self, connection: AnyConnection, channel: str, gap: SharedMessage | None) -> None:
        super().__init__(connection, channel, gap)
        self._slot = Slot()

    def _send(self, message: SharedMessage, *, now: bool) -> bool:
        if message is self._gap:
            # No message takes its place.
            return bool(self._sender.send_shared(message))
        self.dropped += self._sender.send_latest(message, self._slot, now=now)
        return True

    def overflow(self) -> None:
        """End the connection: something else did not fit into its outbox."""
        self._sender.overflow()


class Drop(Lossy):
    """What does not fit is not sent; the client is told of it when something fits again."""

    __slots__ = ("_owes_gap",)

    def __init__(self, connection: AnyConnection, channel: str, gap: SharedMessage | None) -> None:
        super().__init__(connection, channel, gap)
        self._owes_gap = False

    def _send(self, message: SharedMessage, *, now: bool) -> bool:
        sender, gap = self._sender, self._gap
        if message is gap:
            self._owes_gap = True
        if self._owes_gap and gap is not None and sender.offer_shared(gap, now=now):
            self._owes_gap = False
        if message is gap or (not self._owes_gap and sender.offer_shared(message, now=now)):
            return True
        self._owes_gap = gap is not None
        self.dropped += 1
        return self.dropped > 1

    def overflow(self) -> None:
        """Log that messages are dropped, once."""
        logger.warning(
            "%s: the peer reads too slowly: messages on %r are dropped (overflow)",
            self._label,
            self._channel,
        )


KINDS: dict[str, type[Lossy]] = {"latest": Latest, "drop": Drop}


def make_lossy(
    overflow: str, connection: AnyConnection, channel: str, gap: SharedMessage | None
) -> Lossy | None:
    """Return what sends a subscriber its messages; ``None`` for the connection itself.

    :raises ValueError: ``overflow`` is none of ``"close"``, ``"latest"`` and ``"drop"``.
    """
    if overflow == CLOSE:
        return None
    kind = KINDS.get(overflow) if isinstance(overflow, str) else None
    if kind is None:
        raise ValueError(f'overflow is "close", "latest" or "drop", not {overflow!r}.')
    return kind(connection, channel, gap)


def count_dropped(sender: object) -> int:
    """Return how many messages it was not sent."""
    return sender.dropped if isinstance(sender, Lossy) else 0
