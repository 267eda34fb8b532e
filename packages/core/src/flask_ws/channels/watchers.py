"""Those who watch who is there: each is told all members once, and then what changes, in order.

The broker numbers the changes. They are passed on in that order, as long as each is the next one.
Where one is missing, or may be, the members are read again, and what differs is told.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.history import Position
from ..plugin.presence import MemberChange, Members, lease_of
from ..presence.keeper import Keeper
from ..presence.roster import Roster
from ..protocol.frames import TEXT
from ..protocol.shared import SharedMessage
from .subscribers import Subscribers, Told
from .wrapping import ready

__all__ = ["Watched", "Watchers"]

#: Changes that are held while the members are read; where there are more, they are read again.
MANY_CHANGES = 10_000


class State(Told):
    """The members, for a connection that has not been sent them yet."""

    __slots__ = ()


class Watched:
    """The members of one channel, at the broker.

    :param channel: the channel's name.
    :param name: its name at the broker.
    :param read: reads the members.
    :param hears: tells whether changes arrive in this process.
    :param heal: has :meth:`Watchers.heal` called, now or soon.
    :param keeper: looks after the leases of other processes.
    :param patience: seconds that processes have to put their members again, where the broker has
        lost them.
    """

    __slots__ = ("channel", "heal", "hears", "keeper", "name", "patience", "read")

    def __init__(
        self,
        channel: str,
        name: str,
        read: Callable[[], Members],
        hears: Callable[[], bool],
        heal: Callable[[Any], object],
        keeper: Keeper,
        patience: float,
    ) -> None:
        self.channel = channel
        self.name = name
        self.read = read
        self.hears = hears
        self.heal = heal
        self.keeper = keeper
        self.patience = patience


class StateMessage(SharedMessage):
    """All who are there: what one who begins to watch is sent first."""

    __slots__ = ()


class Gate:
    """Sends one who watches the changes, but none before the state.

    :param sender: sends the messages.
    """

    __slots__ = ("_is_open", "_sender")

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._is_open = False

    def _lets(self, message: SharedMessage) -> bool:
        if type(message) is StateMessage:
            self._is_open = True
        return self._is_open

    def send_shared(self, message: SharedMessage) -> bool:
        """Send a message without waiting; must be called in the home thread.

        :return: ``False`` if :meth:`overflow` must follow.
        """
        return not self._lets(message) or bool(self._sender.send_shared(message))

    def queue_shared(self, message: SharedMessage) -> bool:
        """Send a message with the next that are flushed; otherwise the same."""
        return not self._lets(message) or bool(self._sender.queue_shared(message))

    def overflow(self) -> None:
        """End the connection: its client reads too slowly."""
        self._sender.overflow()


class Watchers(Subscribers):
    """The connections in this process that watch the members of a channel.

    :param watched: the channel.
    """

    __slots__ = (
        "_held",
        "_is_sure",
        "_place",
        "_reads",
        "_roster",
        "_state",
        "_wait_until",
        "_waiting_for_state",
        "_watched",
    )

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched
        # The rest is changed under the lock of the publications of this process.
        self._waiting_for_state: dict[AnyConnection, None] = {}
        self._roster = Roster(watched.channel)
        self._state: SharedMessage | None = None
        # The position of the last change; None before the members have been read.
        self._place: Position | None = None
        # Whether all changes after it arrive; if that is not sure, what has arrived since the last
        # read was begun.
        self._is_sure = False
        self._reads = 0
        self._held: deque[tuple[Position, MemberChange]] = deque(maxlen=MANY_CHANGES)
        self._wait_until: float | None = None

    @property
    def name(self) -> str:
        """The channel's name at the broker."""
        return self._watched.name

    def leases(self) -> Collection[str]:
        """Return the names of the leases that its members depend on."""
        with self._owning:
            return {lease_of(member) for member in self._roster.members}

    # Who watches

    def add(self, connection: AnyConnection, sender: Any = None) -> None:
        """Add a connection that is not here yet; it gets nothing before :meth:`begin`."""
        super().add(connection, Gate(sender or connection.sender))
        self._watched.keeper.views.add(self)

    def remove(self, connection: AnyConnection) -> None:
        """Remove a connection that is here."""
        super().remove(connection)
        with self._owning:
            self._waiting_for_state.pop(connection, None)
        if not self:
            self._watched.keeper.views.discard(self)

    def begin(self, connection: AnyConnection) -> None:
        """Send a connection the members, and then what changes; later, if the broker is away."""
        if not self._is_sure:
            with contextlib.suppress(BrokerError):
                self.heal()
        with self._owning:
            if self._place is None:
                self._waiting_for_state[connection] = None
            else:
                self._tell_state(connection)
        self.send_waiting()
        if not self._is_sure:
            self._watched.heal(self)
        self._watched.keeper.start()

    def _tell_state(self, connection: AnyConnection) -> None:
        if self._state is None:
            self._state = _make_message(self._roster.state(), StateMessage)
        self._waiting.append(State(connection, self._sender_of(connection), self._state))

    # What the broker brings

    def receive(self, position: Position, payload: bytes) -> None:
        """Pass a change on to those who watch, in the order of positions, once."""
        change = MemberChange.unpack(payload)
        if change is None:
            return
        with self._owning:
            if self._is_sure:
                self._take(position, change)
            else:
                self._held.append((position, change))
            is_sure = self._is_sure
        if not is_sure:
            self._watched.heal(self)
        self.send_waiting()

    def _take(self, position: Position, change: MemberChange) -> None:
        place = self._place
        assert place is not None
        if position.epoch == place.epoch:
            if position.offset <= place.offset:
                return
            follows = position.offset == place.offset + 1
        else:
            # Nobody was there: the first to come begins a record.
            follows = position.offset == 1 and not self._roster.members
        if follows:
            self._place = position
            self._tell(self._roster.apply(change))
        else:
            self._is_sure = False
            self._held.append((position, change))

    def _tell(self, texts: list[str]) -> None:
        if texts:
            self._state = None
        for text in texts:
            self._waiting.append((_make_message(text), ()))

    def interrupt(self) -> None:
        """Read the members again before anything else is passed on: something may be missing."""
        with self._owning:
            self._interruptions += 1
            self._is_sure = False
        self._watched.heal(self)

    def subscribed(self) -> None:
        """Take note that the broker is subscribed now; it may not have been before."""
        with self._owning:
            self._is_sure = False

    def heal(self) -> bool:
        """Read the members, and tell what differs.

        :return: whether all changes after that arrive.
        :raises BrokerError: they cannot be read now.
        """
        with self._owning:
            # What has arrived is among what is read now.
            self._held.clear()
            self._reads += 1
            number, interruptions = self._reads, self._interruptions
        # In this order: what changes after the members were read arrives.
        hears = self._watched.hears()
        members = self._watched.read()
        with self._owning:
            if not self._is_sure and self._is_newer(members):
                self._place = members.position
                self._tell(self._roster.replace(members.members))
                for connection in self._waiting_for_state:
                    self._tell_state(connection)
                self._waiting_for_state.clear()
                # Of two threads that read, the second has what arrives.
                is_last = number == self._reads and interruptions == self._interruptions
                if hears and is_last:
                    self._release()
            is_sure = self._is_sure
        self.send_waiting()
        return is_sure

    def _is_newer(self, members: Members) -> bool:
        """Tell whether what was read counts, and not what is known."""
        place, position = self._place, members.position
        if place is None or position.epoch == place.epoch or not self._roster.members:
            self._wait_until = None
            return place is None or position >= place or position.epoch != place.epoch
        # The broker has lost them: the processes put them again.
        now = time.monotonic()
        if self._wait_until is None:
            self._wait_until = now + self._watched.patience
        if now < self._wait_until:
            return False
        self._wait_until = None
        return True

    def _release(self) -> None:
        """Pass on what was held, as far as it follows."""
        self._is_sure = True
        held = list(self._held)
        self._held.clear()
        for number, (position, change) in enumerate(held):
            self._take(position, change)
            if not self._is_sure:
                self._held.extend(held[number + 1 :])
                break

    def give_up(self) -> None:
        """Do nothing: the members are read when the broker is back."""

    # Sending; in one thread at a time

    def _send_one(self, item: Any, later: list[Callable[[], object]]) -> None:
        if type(item) is State:
            if item.connection not in self._connections:
                return
            item = Told(item.connection, item.sender, item.message)
        super()._send_one(item, later)


def _make_message(text: str, kind: type[SharedMessage] = SharedMessage) -> SharedMessage:
    return ready(kind(TEXT, text.encode(), is_json=True))
