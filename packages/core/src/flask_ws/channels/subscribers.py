"""The subscribers of one channel, and sending them its messages in one order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from ..concurrency import HomeThread
from ..connection.async_connection import AnyConnection
from ..plugin.history import Position
from ..protocol.shared import SharedMessage
from .groups import Group, send_alone
from .overflow import Lossy, count_dropped

__all__ = ["Own", "Subscribers", "Told"]

#: Seconds that a publisher waits for its turn, before it leaves its message to the sending thread.
TURN_SECONDS = 1.0


class Told:
    """What one connection is told, in order with the channel's messages."""

    __slots__ = ("connection", "message", "sender")

    def __init__(self, connection: AnyConnection, sender: Any, message: SharedMessage) -> None:
        self.connection = connection
        self.sender = sender
        self.message = message


class Own:
    """A publication of this process that the broker is to bring back.

    :param message: the message.
    :param excluded: who does not get it.
    :param interruptions: how often publications may have been lost before it.
    """

    __slots__ = ("excluded", "interruptions", "message", "position", "taken")

    def __init__(
        self, message: SharedMessage, excluded: Collection[AnyConnection], interruptions: int
    ) -> None:
        self.message = message
        self.excluded = excluded
        self.interruptions = interruptions
        #: Once the broker has taken it, a number that all later ones are greater than.
        self.taken: int | None = None
        #: And where it is in the channel's history, if that has one.
        self.position: Position | None = None


#: The groups of a channel on which nothing has been published yet, as on most.
NO_GROUPS: tuple[int, list[Group]] = -1, []


class Subscribers:
    """The connections that are subscribed to one channel, in this process."""

    __slots__ = (
        "_connections",
        "_dropped",
        "_grouped",
        "_interruptions",
        "_messages",
        "_owning",
        "_owns",
        "_sending",
        "_size",
        "_turn",
        "_version",
        "_waiting",
        "call",
        "deliveries",
        "gaps",
        "is_told",
    )

    def __init__(self) -> None:
        # With what sends them messages in place of their own senders, if anything does. A
        # dictionary keeps the order of subscription.
        self._connections: dict[AnyConnection, Any] = {}
        self._version = 0
        # The version of a copy in groups, and the copy, for publishers, who take no lock.
        self._grouped = NO_GROUPS
        # Messages and bytes in the outboxes that may not be sent yet, for the spreader's limits.
        self._messages = self._size = 0
        # Messages to send, the lock that the sending thread holds, and that thread's identifier.
        self._waiting: list[Any] = []
        self._turn = threading.Lock()
        self._sending: int | None = None
        # What this process has published and the broker has not brought back yet, by numbers.
        self._owns: dict[int, Own] = {}
        self._owning = threading.Lock()
        self._interruptions = 0
        #: Whether the broker is subscribed; and an event for the end of a call that changes it.
        self.is_told = False
        self.call: threading.Event | None = None
        #: Messages that were sent, each as often as there were subscribers.
        self.deliveries = 0
        # Of those that are not here any more, what they were not sent, since they read too slowly.
        self._dropped = 0
        #: Gaps, each as often as there were subscribers that have missed what no history has.
        self.gaps = 0

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: AnyConnection, sender: Any = None) -> None:
        """Add a connection that is not here yet.

        :param sender: what sends it messages, if not its own sender does.
        """
        self._connections[connection] = sender
        self._change()

    def remove(self, connection: AnyConnection) -> None:
        """Remove a connection that is here."""
        self._dropped += count_dropped(self._connections.pop(connection))
        self._change()

    def lossy(self, connection: AnyConnection) -> Lossy | None:
        """Return what sends a connection messages, if its own sender does not."""
        sender = self._connections.get(connection)
        return sender if isinstance(sender, Lossy) else None

    def _sender_of(self, connection: AnyConnection) -> Any:
        return self._connections.get(connection) or connection.sender

    @property
    def dropped(self) -> int:
        """Messages that connections were not sent, since they read too slowly."""
        return self._dropped + sum(map(count_dropped, list(self._connections.values())))

    def _change(self) -> None:
        self._version += 1
        # Now, not at the next publication: it would keep closed connections until then.
        for group in self._grouped[1]:
            self._messages += group.round.messages
            self._size += group.round.size
        self._grouped = NO_GROUPS

    def count(self) -> int:
        """Count those that are open."""
        return sum(connection.connected for connection in list(self._connections))

    def send(self, message: SharedMessage, excluded: Collection[AnyConnection] = ()) -> None:
        """Send each of them a message, all of them in the same order; waits for none of them."""
        self._waiting.append((message, excluded))
        self.send_waiting()

    def tell(self, connection: AnyConnection, message: SharedMessage, sender: Any = None) -> None:
        """Send one connection a message: after those that were sent to all before, if it got them.

        :param connection: the connection; it need not be here any more.
        :param sender: what sends it messages, if not its own sender does.
        """
        self._waiting.append(Told(connection, sender or connection.sender, message))
        self.send_waiting()

    def send_waiting(self) -> None:
        """Send what waits; if another thread is sending, wait until it has sent that."""
        waiting, turn, me = self._waiting, self._turn, threading.get_ident()
        later: list[Callable[[], object]] = []
        try:
            while True:
                # The thread that holds the lock sends what waits. It should not wait for this
                # thread; if it does, or is this thread, it sends this message a little later.
                may_wait = self._sending != me
                if not turn.acquire(may_wait, TURN_SECONDS if may_wait else -1):
                    break
                self._sending = me
                try:
                    while waiting:
                        self._send_one(waiting.pop(0), later)
                finally:
                    self._sending = None
                    turn.release()
                if not waiting:
                    break
        finally:
            for call in later:
                call()

    def _send_one(self, item: Any, later: list[Callable[[], object]]) -> None:
        if type(item) is Told:
            send_alone(item.connection, item.sender, [item.message], later)
            return
        message, excluded = item
        version, groups = self._grouped
        if version != self._version:
            groups = self._group()
        for group in groups:
            group.send(message, excluded, later)
            # By one thread at a time.
            self.deliveries += group.count(excluded)

    # What this process publishes, where the broker brings it back

    def expect(
        self, number: int, message: SharedMessage, excluded: Collection[AnyConnection]
    ) -> None:
        """Keep a publication until the broker brings it back.

        :param number: its number, greater than those of publications before it.
        """
        with self._owning:
            self._owns[number] = Own(message, excluded, self._interruptions)

    def taken(self, number: int, next_number: int, *, is_deaf: bool) -> None:
        """Note that the broker has taken a publication.

        :param number: the publication's number.
        :param next_number: a number that all later publications' are greater than.
        :param is_deaf: whether the broker brings this process nothing at present.
        """
        own = self._owns.get(number)
        if own is not None:
            own.taken = next_number
            if is_deaf or own.interruptions != self._interruptions:
                self.send_own(number)

    def send_own(self, number: int) -> None:
        """Send a publication of this process: the broker has brought it back, or will not.

        :param number: its number; nothing is sent twice.
        """
        with self._owning:
            own = self._owns.pop(number, None)
            # What the broker took before it, and has not brought back, is lost or late.
            self._send_own(lambda other: other.taken is not None and other.taken < number)
            if own is not None:
                self._put_own(number, own)
        self.send_waiting()

    def subscribed(self) -> None:
        """Take note that the broker is subscribed now; it may not have been before."""

    def interrupt(self) -> None:
        """Send what this process has published and the broker may not bring back."""
        with self._owning:
            self._interruptions += 1
            self._send_own(lambda own: own.taken is not None)
        self.send_waiting()

    def _send_own(self, is_due: Callable[[Own], bool]) -> None:
        if self._owns:
            for number in [number for number, own in sorted(self._owns.items()) if is_due(own)]:
                self._put_own(number, self._owns.pop(number))

    def _put_own(self, number: int, own: Own) -> None:
        self._waiting.append((own.message, own.excluded))

    def _group(self) -> list[Group]:
        # Read before the dictionary: after a change meanwhile, it is read again.
        version = self._version
        found: dict[tuple[HomeThread | None, str], list[tuple[AnyConnection, Any]]] = {}
        # A copy, which no other thread can interrupt.
        for connection, sender in list(self._connections.items()):
            key = connection.home, connection.concurrency.name
            found.setdefault(key, []).append((connection, sender or connection.sender))
        groups = [Group(members) for members in found.values()]
        for group in groups:
            group.round.messages, group.round.size = self._messages, self._size
        self._messages = self._size = 0
        self._grouped = version, groups
        return groups
