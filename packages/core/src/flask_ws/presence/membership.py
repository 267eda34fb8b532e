"""A connection that has joined a channel, as its own process has it."""

from __future__ import annotations

import threading

__all__ = ["Membership"]


class Membership:
    """A member of a channel. The keeper's lock is held when it is changed.

    :param id: its id at the broker.
    :param channel: the channel.
    :param data: what the broker keeps of it.
    """

    __slots__ = (
        "channel",
        "data",
        "has_ended",
        "id",
        "is_confirmed",
        "is_put",
        "is_wanted",
        "waiting",
    )

    def __init__(self, id: str, channel: str, data: bytes) -> None:  # noqa: A002
        self.id = id
        self.channel = channel
        self.data = data
        #: Whether it is to be there, or to be dropped.
        self.is_wanted = True
        #: Whether its connection has ended.
        self.has_ended = False
        #: Whether the broker may have it; and whether it is known to have it, as it is.
        self.is_put = self.is_confirmed = False
        #: Who waits until the broker knows it as it is now.
        self.waiting: list[threading.Event] | None = None

    def wait(self) -> threading.Event:
        """Return an event for that."""
        event = threading.Event()
        if self.waiting is None:
            self.waiting = []
        self.waiting.append(event)
        return event

    def settle(self) -> None:
        """Wake those who wait."""
        waiting, self.waiting = self.waiting, None
        for event in waiting or ():
            event.set()
