"""Listener: the connection on which notifications of a PostgreSQL arrive."""

from __future__ import annotations

import logging
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flask_ws import BrokerHealth, BrokerListener, BrokerWish, Position

from . import survey
from .link import Link, LinkError, RefusedError
from .notifications import name_notifications
from .settings import Settings

__all__ = ["Listener"]

logger = logging.getLogger("flask_ws")

#: Channels that are told to the server at once.
MANY_CHANNELS = 500

#: Of questions to all processes.
NAME = survey.NAME.encode()

#: In place of a position.
NOWHERE = b"-"


class Change(NamedTuple):
    """What the server is told, as of a channel; without a text, it is only asked to answer."""

    text: str
    wish: BrokerWish | None = None


class Listener(BrokerListener):
    """Listens to channels on one PostgreSQL, and reconnects by itself.

    :param settings: how to reach it.
    :param deliver: called for each message with its channel, its payload and its position.
    :param health: what is known of it.
    :param on_loss: called when the connection was lost.
    """

    def __init__(
        self,
        settings: Settings,
        deliver: Callable[..., object],
        health: BrokerHealth,
        on_loss: Callable[[], object],
    ) -> None:
        super().__init__(health, on_loss)
        self._settings = settings
        self._deliver = deliver
        # What the thread alone uses.
        self._link: Link | None = None
        self._names: dict[bytes, str] = {}
        self._sent: dict[str, BrokerWish] = {}
        # What is to be sent; and what was, together, and is not answered yet.
        self._unsent: deque[Change] = deque()
        self._unanswered: list[Change] = []
        self._results: list[Any] = []
        # Of messages that have not arrived whole, by the names of their notifications.
        self._pieces: dict[bytes, list[bytes]] = {}
        self._may_have_more = False

    def connect(self) -> int:
        """Connect to the server."""
        for container in (self._names, self._sent, self._unsent, self._pieces):
            container.clear()
        self._unanswered, self._results = [], []
        self._may_have_more = False
        self.interval = self._settings.health_check_interval
        self.answer = self._settings.answer_timeout
        self._link = Link(self._settings)
        survey.take_part(self._link)
        return self._link.fd

    def disconnect(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def leave_to_parent(self) -> None:
        """Drop the connection, in a child process."""
        link, self._link = self._link, None
        if link is not None:
            link.leave_to_parent()

    def is_waiting(self) -> bool:
        """Tell whether something is not answered yet."""
        return bool(self._unanswered)

    def ping(self) -> None:
        """Ask the server whether it is there."""
        self._unsent.append(Change(""))
        self._send_next()

    def send(self, changes: Sequence[tuple[str, BrokerWish | None]]) -> bool:
        """Tell the server what has changed; ``False`` if nothing has."""
        for channel, wish in changes:
            try:
                name = name_notifications(channel)
            except UnicodeEncodeError as error:
                # The caller got an exception; here it must not affect the other channels.
                logger.error("Nobody can listen to %r: %s.", channel, error.reason)
                if wish is not None:
                    wish.set()
                continue
            if wish is None:
                if self._sent.pop(channel, None) is not None:
                    self._names.pop(name.encode(), None)
                    self._unsent.append(Change(f"UNLISTEN {name}"))
            elif self._sent.get(channel) is not wish:
                self._sent[channel] = wish
                self._names[name.encode()] = channel
                self._unsent.append(Change(f"LISTEN {name}", wish))
        self._send_next()
        return self.is_waiting()

    def _send_next(self) -> None:
        """Send what waits, unless an answer is awaited."""
        if self._unanswered or not self._unsent:
            return
        assert self._link is not None
        number = min(len(self._unsent), MANY_CHANNELS)
        self._unanswered = [self._unsent.popleft() for _ in range(number)]
        # Together they are one transaction; the empty text of a ping has an answer, too.
        self._link.send(";".join(change.text for change in self._unanswered).encode())

    def read(self) -> bool | None:
        """Read what has arrived; ``None`` if nothing has, and whether there may be more."""
        link = self._link
        assert link is not None
        if not self._may_have_more and not link.is_readable():
            return None
        link.receive()
        is_any = False
        while (notification := link.take_notification()) is not None:
            is_any = True
            self._notified(*notification)
        while self._unanswered and link.has_result():
            is_any = True
            result = link.take_result()
            if result is None:
                self._answered(link)
            else:
                self._results.append(result)
        self._may_have_more = is_any
        return is_any

    def _answered(self, link: Link) -> None:
        answered, self._unanswered = self._unanswered, []
        results, self._results = self._results, []
        try:
            link.check(results)
        except RefusedError as error:
            # None of the channels is listened to.
            raise LinkError(str(error)) from error
        for change in answered:
            if change.wish is not None:
                change.wish.confirm()
            elif not change.text:
                self.pong()
        self._send_next()

    def _answer(self, question: bytes) -> None:
        statement = survey.answer(question, self._sent)
        if statement is not None:
            self._unsent.append(Change(statement))
            self._send_next()

    def _notified(self, name: bytes, text: bytes) -> None:
        if name == NAME:
            self._answer(text)
            return
        channel = self._names.get(name)
        if channel is None:
            return
        try:
            number, count, place, piece = text.split(b" ", 3)
            if number == b"0":
                self._pieces[name] = []
            pieces = self._pieces.get(name)
            if pieces is None or len(pieces) != int(number):
                # It was published while this process began to listen.
                return
            pieces.append(b64decode(piece))
            if len(pieces) < int(count):
                return
            payload = b"".join(self._pieces.pop(name))
            if place == NOWHERE:
                self._deliver(channel, payload)
            else:
                self._deliver(channel, payload, Position.parse(place.decode()))
        except Exception:
            logger.exception("A message on %s could not be delivered.", channel)
