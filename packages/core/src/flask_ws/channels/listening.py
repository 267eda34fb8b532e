"""Listening to a channel in a program: its messages one after the other, with their positions."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from ..concurrency import threads
from ..protocol.frames import TEXT
from ..protocol.shared import SharedMessage
from ..system import waitable
from .results import Subscription

__all__ = ["Listening", "Mailbox", "Message"]

#: Messages that wait for a program at most, and their bytes; the last one may be larger. Past that
#: the oldest are dropped, which is a gap.
MANY_MESSAGES = 1000
MANY_BYTES = 2**24


class Message(NamedTuple):
    """A message that was published on a channel."""

    #: The message: text, or bytes.
    data: str | bytes
    #: Its position in the channel's history; ``None`` if that has none, or the broker was away.
    position: str | None
    #: Whether messages before it are missing, or may be.
    after_gap: bool
    #: The channel.
    channel: str = ""


class Mailbox:
    """What a channel's messages are sent to, in place of a connection.

    :param channel: the channel.
    """

    label = "A listener"
    concurrency = threads
    home = None
    #: It is no connection, and is not counted as one.
    connected = False

    def __init__(self, channel: str = "") -> None:
        self._channel = channel
        self.sender = self
        #: What it is sent where messages are missing.
        self.gap = SharedMessage(TEXT, b"")
        self._is_open = True
        self._arrived = threading.Condition()
        self._messages: deque[SharedMessage] = deque()
        self._size = 0
        self._is_after_gap = False

    def check_connected(self) -> None:
        """Do nothing: it is subscribed once, before it is closed."""

    def send_shared(self, message: SharedMessage) -> bool:
        """Keep a message for the program; waits for nobody."""
        with self._arrived:
            messages = self._messages
            messages.append(message)
            self._size += len(message.payload)
            while len(messages) > MANY_MESSAGES or (self._size > MANY_BYTES and len(messages) > 1):
                self._take_first()
                self._is_after_gap = True
            self._arrived.notify()
        return True

    queue_shared = send_shared

    def flush(self) -> None:
        """Do nothing: nothing waits to be sent."""

    def overflow(self) -> None:
        """Do nothing: the oldest was dropped."""

    def take(self, timeout: float | None) -> Message | None:
        """Wait for a message; ``None`` when the time is up, or it is closed."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._find() or not self._is_open, waitable(timeout))
            if not self._find():
                return None
            message = self._take_first()
            is_after_gap, self._is_after_gap = self._is_after_gap, False
        data: str | bytes = bytes(message.payload)
        if message.first == TEXT:
            data = bytes(message.payload).decode()
        position = None if message.position is None else str(message.position)
        return Message(data, position, is_after_gap, self._channel)

    def has_messages(self) -> bool:
        """Tell whether a message waits."""
        return bool(self._messages)

    def _find(self) -> bool:
        while self._messages and self._messages[0] is self.gap:
            self._take_first()
            self._is_after_gap = True
        return bool(self._messages)

    def _take_first(self) -> SharedMessage:
        message = self._messages.popleft()
        self._size -= len(message.payload)
        return message

    def close(self) -> None:
        """Wake those who wait; nothing comes any more."""
        with self._arrived:
            self._is_open = False
            self._messages.clear()
            self._size = 0
            self._arrived.notify_all()


class Listening:
    """A subscription of a program's: an iterator of :class:`Message`.

    Any thread may use it; each message goes to one. It ends with :meth:`close`, as at the end of
    a ``with`` statement.

    :param mailbox: where the messages arrive.
    :param subscription: what subscribing has told.
    :param end: ends the subscription.
    """

    def __init__(
        self, mailbox: Mailbox, subscription: Subscription, end: Callable[[], object]
    ) -> None:
        self._mailbox = mailbox
        self._end = end
        #: The channel's position when it began, as :attr:`Subscription.position`.
        self.position = subscription.position
        #: Whether everything after ``since`` comes, as :attr:`Subscription.recovered`.
        self.recovered = subscription.recovered

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return the next message.

        :param timeout: seconds to wait for it; ``None`` for as long as it takes.
        :return: the message; ``None`` when the time is up, or this is closed.
        """
        return self._mailbox.take(timeout)

    def __iter__(self) -> Listening:
        return self

    def __next__(self) -> Message:
        message = self._mailbox.take(None)
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        """Listen no more: a thread that waits for a message goes on."""
        self._mailbox.close()
        self._end()

    def __enter__(self) -> Listening:  # noqa: PYI034
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
