"""What waits to be sent to the subscribers of a channel with history, besides plain messages."""

from __future__ import annotations

from collections.abc import Collection

from ..connection.async_connection import AnyConnection
from ..plugin.history import Position
from ..protocol.shared import SharedMessage
from .publication import read

__all__ = ["Gap", "Item"]


class Item:
    """A message that waits to be sent to the subscribers.

    :param position: its position; ``None`` if the broker does not have it.
    :param excluded: who does not get it.
    :param payload: the publication, if it has not been read yet.
    :param message: the message, if it has.
    :param number: its number in this process, if the broker may have it all the same.
    """

    __slots__ = ("_message", "_payload", "excluded", "number", "position")

    def __init__(
        self,
        position: Position | None,
        excluded: Collection[AnyConnection],
        *,
        payload: bytes = b"",
        message: SharedMessage | None = None,
        number: int | None = None,
    ) -> None:
        self.position = position
        self.excluded = excluded
        self.number = number
        self._payload = payload
        self._message = message

    def message(self) -> SharedMessage | None:
        """Return the message, whose frame is made once; ``None`` if it is not from flask-ws."""
        message = self._message
        if message is None:
            message = self._message = read(self._payload)
        if message is not None:
            message.position = self.position
        return message


class Gap:
    """Messages are missing here, for all.

    :param epoch: that of the other history that begins; ``None`` if none does.
    """

    __slots__ = ("epoch",)

    def __init__(self, epoch: str | None = None) -> None:
        self.epoch = epoch
