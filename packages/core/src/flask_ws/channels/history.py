"""The subscribers of a channel with history: each gets all positions in order, without a gap.

The broker brings messages with their positions. They are passed on in that order, as long as each
is the next one. Where one is missing, or may be, what comes is held until the history at the broker
has been read. What the broker does not have any more is a gap, and the subscribers are told.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.history import History, Position
from ..protocol.shared import SharedMessage
from .groups import send_alone
from .items import Gap, Item
from .joins import CatchUp, Joins
from .publication import read_origin
from .results import Subscription
from .sequence import Arrival, Sequence
from .source import Source
from .starts import find_start
from .subscribers import Own, Subscribers, Told
from .wrapping import Wrapped

__all__ = ["KeptSubscribers"]

logger = logging.getLogger("flask_ws")

#: Numbers of publications that were sent without the broker and may arrive late.
MANY_EARLY = 1000
#: How often a subscription reads the history, where that begins anew meanwhile.
ATTEMPTS = 3


class KeptSubscribers(Subscribers):
    """The connections in this process that are subscribed to a channel with history.

    :param source: where its messages come from.
    """

    __slots__ = ("_early", "_joins", "_members", "_sequence", "_source")

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        # The rest is changed under the lock of the publications of this process.
        self._sequence = Sequence()
        self._joins = Joins()
        # Publications of this process that were sent without the broker: who has got them.
        self._early: dict[int, Collection[AnyConnection]] = {}
        self._members: tuple[int, frozenset[AnyConnection]] = -1, frozenset()

    # Who is subscribed

    def add(self, connection: AnyConnection, sender: Any = None) -> None:
        """Add a connection that is not here yet; it gets nothing before :meth:`join`."""
        with self._owning:
            self._joins.add(connection)
        super().add(connection, sender)

    def remove(self, connection: AnyConnection) -> None:
        """Remove a connection that is here."""
        super().remove(connection)
        with self._owning:
            self._joins.remove(connection)

    def join(
        self,
        connection: AnyConnection,
        since: Position | None,
        gap: SharedMessage | None,
        wrapped: Wrapped | None = None,
    ) -> Subscription:
        """Send a connection what it has missed, and then what comes.

        :param connection: the connection, which was added.
        :param since: the position up to which it has the messages; ``ALL`` for none of what
            is kept, and ``None`` for all.
        :param gap: what it is sent where messages are missing.
        :param wrapped: tells it between the two that it is subscribed.
        """
        history: History | None = None
        is_current = False
        for _ in range(ATTEMPTS):
            try:
                if not self._sequence.is_sure:
                    self.heal()
                place = self._sequence.place
                is_current = since is not None and since == place
                if since is None or is_current:
                    break
                history = self._source.read(since)
            except BrokerError:
                self._doubt()
                history = None
                break
            if place is not None and history.position.epoch == place.epoch:
                break
            # Another history has begun, and the others have not heard of it yet.
            self._doubt()
        with self._owning:
            subscription = self._begin(
                connection, since, gap, history, wrapped, is_current=is_current
            )
        self.send_waiting()
        if not self._sequence.is_sure:
            self._source.heal(self)
        return subscription

    def _begin(
        self,
        connection: AnyConnection,
        since: Position | None,
        gap: SharedMessage | None,
        history: History | None,
        wrapped: Wrapped | None,
        *,
        is_current: bool,
    ) -> Subscription:
        """Queue what a connection has missed.

        :param history: what was read after ``since``, if it was.
        :param is_current: whether nothing came after ``since`` a moment ago.
        """
        start = find_start(self._sequence.place, since, history, is_current=is_current)
        items: list[Item] = []
        numbers: set[int] = set()
        if history is not None and start.from_history:
            items = [
                Item(Position(history.position.epoch, offset), (), payload=payload)
                for offset, payload in history.messages
            ]
            numbers = self._exclude_from_own(connection, history)
        catch_up = self._joins.begin(
            connection,
            items,
            numbers,
            start.after,
            start.ahead,
            gap,
            says_gap=not start.recovered,
        )
        subscription = Subscription(
            None if start.upto is None else str(start.upto), recovered=start.recovered
        )
        if catch_up is not None:
            if wrapped is not None and wrapped.tell is not None:
                catch_up.last = wrapped.tell(subscription)
            self._waiting.append(catch_up)
        return subscription

    def _exclude_from_own(self, connection: AnyConnection, history: History) -> set[int]:
        """Send a connection nothing of this process's that it gets from the history.

        The broker may have taken what this process does not know to be taken.

        :return: the numbers of these publications.
        """
        numbers = set()
        for _, payload in history.messages:
            origin, number = read_origin(payload)
            if origin == self._source.origin:
                numbers.add(number)
                own = self._owns.get(number)
                if own is not None:
                    own.excluded = {*own.excluded, connection}
        return numbers

    def position(self, since: Position | None) -> Subscription:
        """Tell the position, to a connection that was subscribed before."""
        place = self._sequence.place
        return Subscription(
            None if place is None else str(place), recovered=since is None or since == place
        )

    # What the broker brings

    def receive(self, position: Position, payload: bytes) -> None:
        """Pass a message on to the subscribers, in the order of positions, once."""
        with self._owning:
            self._pass_on(self._sequence.take(position, payload))
            is_sure = self._sequence.is_sure
        if not is_sure:
            self._source.heal(self)
        else:
            # Also if another thread has passed it on: it is sent when this returns.
            self.send_waiting()

    def interrupt(self) -> None:
        """Read the history before anything else is passed on: something may be missing."""
        with self._owning:
            self._interruptions += 1
        self._doubt()
        self._source.heal(self)

    def subscribed(self) -> None:
        """Take note that the broker is subscribed now; it may not have been before."""
        self._doubt()

    def taken_at(self, number: int, next_number: int, position: Position, *, is_deaf: bool) -> None:
        """Note that the broker has taken a publication: its history has it in any case.

        :param number: the publication's number.
        :param next_number: a number that all later publications' are greater than.
        :param position: where it is in the history.
        :param is_deaf: whether the broker brings this process nothing at present.
        """
        own = self._owns.get(number)
        if own is not None:
            own.taken, own.position = next_number, position
            if is_deaf or own.interruptions != self._interruptions:
                self._doubt()
                self._source.heal(self)

    def _doubt(self) -> None:
        with self._owning:
            self._sequence.is_sure = False

    def heal(self) -> bool:
        """Read the history, and pass on what is missing.

        :return: whether all that comes after it arrives.
        :raises BrokerError: it cannot be read now.
        """
        sequence = self._sequence
        with self._owning:
            place, interruptions = sequence.place, self._interruptions
            before = sequence.held
        # In this order: what is published after the history was read arrives.
        hears = self._source.hears()
        history = self._source.read(place)
        with self._owning:
            is_taken = self._catch_up(history, place)
            if is_taken and hears and interruptions == self._interruptions:
                self._pass_on(sequence.release(before))
        self.send_waiting()
        return sequence.is_sure

    def give_up(self) -> None:
        """Go on with a gap: what arrives cannot wait any longer for the history to be read."""
        with self._owning:
            self._pass_on(self._sequence.give_up())
        self.send_waiting()

    def _catch_up(self, history: History, before: Position | None) -> bool:
        """Pass on what was missed; ``False`` if the history has to be read again.

        :param before: the place when it was read.
        """
        is_first = self._sequence.place is None
        missed = self._sequence.catch_up(history, before)
        if missed is None:
            return False
        if is_first:
            if self._joins.has_begun:
                # They have subscribed while the broker could not be reached.
                self._waiting.append(Gap(history.position.epoch))
            return True
        self._pass_on(missed)
        self._forget_lost()
        return True

    def _forget_lost(self) -> None:
        """Forget what this process has published and no history has any more: a gap."""
        place = self._sequence.place
        assert place is not None
        for number, own in list(self._owns.items()):
            position = own.position
            if position is not None and (position.epoch != place.epoch or position <= place):
                del self._owns[number]

    def _pass_on(self, arrivals: Iterable[Arrival]) -> None:
        for arrival in arrivals:
            if isinstance(arrival, Gap):
                self._waiting.append(arrival)
                continue
            position, payload = arrival
            origin, number = read_origin(payload)
            own = None
            excluded: Collection[AnyConnection] = ()
            if origin == self._source.origin:
                own = self._owns.pop(number, None)
                excluded = self._early.pop(number, ()) if own is None else own.excluded
            if own is None:
                self._put(Item(position, excluded, payload=payload))
            else:
                self._put(Item(position, excluded, message=own.message))

    def follow(
        self, message: SharedMessage, position: Position, excluded: Collection[AnyConnection]
    ) -> None:
        """Pass on a message that no other can come before; :meth:`send_waiting` must follow.

        :param message: the message, which has its position.
        :param position: its position.
        :param excluded: who does not get it.
        """
        sequence, joins = self._sequence, self._joins
        with self._owning:
            place = sequence.place
            if place is not None and place.epoch != position.epoch:
                self._waiting.append(Gap(position.epoch))
            sequence.place, sequence.is_sure = position, True
            if joins.pending:
                self._put(Item(position, excluded, message=message))
            else:
                self._waiting.append((message, excluded))

    # What waits to be sent

    def send(self, message: SharedMessage, excluded: Collection[AnyConnection] = ()) -> None:
        """Send each of them a message that has no position."""
        with self._owning:
            self._put(Item(None, excluded, message=message))
        self.send_waiting()

    def send_own(self, number: int) -> None:
        """Send a publication of this process that the broker has not taken, as far as is known.

        It has no position. Those that were taken before it come at theirs.
        """
        with self._owning:
            own = self._owns.pop(number, None)
            if own is not None:
                self._put_own(number, own)
        self.send_waiting()

    def _put_own(self, number: int, own: Own) -> None:
        # The broker may have taken it all the same, and bring it later: to others only.
        version, members = self._members
        if version != self._version:
            version = self._version
            members = frozenset(list(self._connections))
            self._members = version, members
        excluded = members if not own.excluded else members.union(own.excluded)
        if len(self._early) < MANY_EARLY:
            self._early[number] = excluded
        self._put(Item(None, own.excluded, message=own.message, number=number))

    def _put(self, item: Item) -> None:
        self._waiting.append(item)
        if self._joins.pending:
            self._joins.note(item)

    # Sending; in one thread at a time

    def _send_one(self, item: Any, later: list[Callable[[], object]]) -> None:
        if isinstance(item, CatchUp):
            self._send_missed(item, later)
            return
        if isinstance(item, Gap):
            self._send_gap(item, later)
            return
        if isinstance(item, Told):
            super()._send_one(item, later)
            return
        message, excluded = item if type(item) is tuple else (item.message(), item.excluded)
        if message is None:
            later.append(functools.partial(_warn, self._source.name))
            return
        if self._joins.pending:
            with self._owning:
                ahead = self._joins.exclude(message.position)
            excluded = ahead.union(excluded) if ahead else excluded
        super()._send_one((message, excluded), later)

    def _send_missed(self, catch_up: CatchUp, later: list[Callable[[], object]]) -> None:
        with self._owning:
            messages = self._joins.end(catch_up)
        if messages is None:
            return
        connection = catch_up.connection
        self.gaps += catch_up.says_gap
        for item in catch_up.items:
            message = item.message()
            if message is not None and connection not in item.excluded:
                messages.append(message)
        self.deliveries += len(messages)
        if catch_up.last is not None:
            messages.append(catch_up.last)
        if messages:
            send_alone(connection, self._sender_of(connection), messages, later)

    def _send_gap(self, gap: Gap, later: list[Callable[[], object]]) -> None:
        later.append(functools.partial(self._source.note_gap, self._source.name))
        with self._owning:
            told = self._joins.tell_gap(gap.epoch)
            # Those that join read for themselves what there is.
            self.gaps += max(0, len(self) - len(self._joins.pending))
        for connection, message in told:
            send_alone(connection, self._sender_of(connection), [message], later)


def _warn(name: str) -> None:
    logger.warning("A publication on %r is not from flask-ws, and is left out.", name)
