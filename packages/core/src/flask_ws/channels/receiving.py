"""Passing on what the broker brings to the subscribers in this process."""

from __future__ import annotations

import logging

from ..plugin.history import Position
from ..protocol.frames import BytesLike
from .census import Census
from .history import KeptSubscribers
from .publication import COUNT, read, read_origin
from .subscriptions import Subscriptions
from .watchers import Watchers

__all__ = ["Receiver"]

logger = logging.getLogger("flask_ws")


class Receiver:
    """Gets what the broker brings. Any thread may call it.

    :param prefix: goes before the channels' names at the broker.
    :param origin: identifies this process to the others.
    :param subscriptions: who is subscribed here.
    :param census: answers questions; ``None`` where there are no other processes.
    """

    def __init__(
        self, prefix: str, origin: bytes, subscriptions: Subscriptions, census: Census | None
    ) -> None:
        self._start = len(prefix)
        self._origin = origin
        self._subscriptions = subscriptions
        self._census = census

    def receive(self, channel: str, payload: bytes, position: Position | None = None) -> None:
        """Pass on a publication.

        :param channel: its name at the broker.
        :param position: where the publication is in the channel's history, if that has one.
        """
        subscribers = self._subscriptions.get(channel[self._start :])
        if subscribers is None:
            return
        if position is not None and isinstance(subscribers, (KeptSubscribers, Watchers)):
            subscribers.receive(position, payload)
            return
        origin, number = read_origin(payload)
        if origin == self._origin:
            subscribers.send_own(number)
            return
        message = read(payload)
        if message is None:
            logger.warning("A publication on %r is not from flask-ws, and is left out.", channel)
        elif message.first == COUNT:
            self._answer(channel[self._start :], message.payload)
        else:
            subscribers.send(message)

    def _answer(self, channel: str, payload: BytesLike) -> None:
        if self._census is not None:
            self._census.note(channel, bytes(payload).decode(errors="replace"))

    def interrupted(self, channel: str | None) -> None:
        """Handle a possible loss of publications; on all channels, if none is named."""
        if channel is None:
            for subscribers in self._subscriptions.all():
                subscribers.interrupt()
        else:
            found = self._subscriptions.get(channel[self._start :])
            if found is not None:
                found.interrupt()
