"""The subscribers of a channel with history: each gets a run of positions without a hole.

The broker brings messages with their positions. They are passed on in that order, as long as each
is the next one. Where one is missing, or may be, what comes is held until the history at the broker
has been read. What it does not have any more is a gap, and the subscribers are told.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection
from typing import Any

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.history import History, Position
from ..protocol.shared import SharedMessage
from .items import CatchUp, Gap, Item, Join
from .publication import read_origin
from .results import Subscription
from .source import Source
from .subscribers import Own, Subscribers, send_alone

__all__ = ["ALL", "KeptSubscribers"]

logger = logging.getLogger("flask_ws")

#: Of no history: all that is kept comes after it.
ALL = Position("", 0)

#: Messages, and bytes, that are held at most while the history cannot be read.
MANY_HELD = 1000
MANY_BYTES = 2**22
#: Numbers of publications that were sent without the broker and may arrive late.
MANY_EARLY = 1000
#: How often a subscription reads the history, where that begins anew meanwhile.
ATTEMPTS = 3


class KeptSubscribers(Subscribers):
    """The connections in this process that are subscribed to a channel with history.

    :param source: where its messages come from.
    """

    __slots__ = (
        "_early",
        "_gaps",
        "_held",
        "_held_bytes",
        "_is_sure",
        "_joins",
        "_members",
        "_place",
        "_source",
    )

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        # The rest is changed under the lock of the publications of this process.
        # What was passed on last, and whether all that comes after it arrives.
        self._place: Position | None = None
        self._is_sure = False
        # What has arrived while that was not sure.
        self._held: list[tuple[Position, bytes]] = []
        self._held_bytes = 0
        # Connections that have not been sent all that they missed, or are ahead of the others.
        self._joins: dict[AnyConnection, Join] = {}
        # What connections are sent where messages are missing.
        self._gaps: dict[AnyConnection, SharedMessage] = {}
        # Publications of this process that were sent without the broker: who has got them.
        self._early: dict[int, Collection[AnyConnection]] = {}
        self._members: tuple[int, frozenset[AnyConnection]] = -1, frozenset()

    # Who is subscribed

    def add(self, connection: AnyConnection) -> None:
        """Add a connection that is not here yet; it gets nothing before :meth:`join`."""
        with self._owning:
            self._joins[connection] = Join()
        super().add(connection)

    def remove(self, connection: AnyConnection) -> None:
        """Remove a connection that is here."""
        super().remove(connection)
        with self._owning:
            self._joins.pop(connection, None)
            self._gaps.pop(connection, None)

    def join(
        self, connection: AnyConnection, since: Position | None, gap: SharedMessage | None
    ) -> Subscription:
        """Send a connection what it has missed, and then what comes.

        :param connection: the connection, which was added.
        :param since: the position up to which it has the messages; :data:`ALL` for none of what
            is kept, and ``None`` for all.
        :param gap: what it is sent where messages are missing.
        """
        history: History | None = None
        is_current = False
        for _ in range(ATTEMPTS):
            try:
                if not self._is_sure:
                    self.heal()
                place = self._place
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
            subscription = self._finish(connection, since, gap, history, is_current=is_current)
        self._send_waiting()
        if not self._is_sure:
            self._source.heal(self)
        return subscription

    def _finish(
        self,
        connection: AnyConnection,
        since: Position | None,
        gap: SharedMessage | None,
        history: History | None,
        *,
        is_current: bool,
    ) -> Subscription:
        """Queue what a connection has missed.

        :param history: what was read after ``since``, if it was.
        :param is_current: whether nothing came after ``since`` a moment ago.
        """
        place = self._place
        # What is passed on meanwhile is sent as far as it comes after this.
        after, upto = place, place
        recovered = since is None or is_current
        items: list[Item] = []
        numbers: set[int] = set()
        if history is not None and place is not None and history.position.epoch == place.epoch:
            after, upto = history.position, max(place, history.position)
            recovered = since is ALL or _is_whole(history, since)
            items = [
                Item(Position(place.epoch, offset), (), payload=payload)
                for offset, payload in history.messages
            ]
            numbers = self._exclude_from_own(connection, history)
        elif since is not None and place is not None and since.epoch == place.epoch:
            if since >= place:
                # All that comes after it comes to all others as well.
                after = upto = since
                recovered = True
            elif is_current:
                after = since
        join = self._joins.get(connection)
        if join is not None and join.missed is not None:
            for item in join.missed:
                if item.number not in numbers and (
                    item.position is None or _is_after(item.position, after)
                ):
                    items.append(item)
            join.missed, join.upto = None, None if upto == place else upto
            if gap is not None:
                self._gaps[connection] = gap
            self._waiting.append(CatchUp(connection, join, items, says_gap=not recovered))
        return Subscription(None if upto is None else str(upto), recovered=recovered)

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
        place = self._place
        return Subscription(
            None if place is None else str(place), recovered=since is None or since == place
        )

    # What the broker brings

    def receive(self, position: Position, payload: bytes) -> None:
        """Pass a message on to the subscribers, in the order of positions, once."""
        with self._owning:
            place = self._place
            if (
                self._is_sure
                and place is not None
                and position.epoch == place.epoch
                and position.offset <= place.offset + 1
            ):
                if position.offset > place.offset:
                    self._pass_on(position, payload)
            else:
                self._is_sure = False
                self._held.append((position, payload))
                self._held_bytes += len(payload)
                if len(self._held) > MANY_HELD or self._held_bytes > MANY_BYTES:
                    self._give_up()
            is_held = bool(self._held)
        if is_held:
            self._source.heal(self)
        else:
            # Also if another thread has passed it on: it is sent when this returns.
            self._send_waiting()

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
            self._is_sure = False

    def heal(self) -> bool:
        """Read the history, and pass on what is missing.

        :return: whether all that comes after it arrives.
        :raises BrokerError: it cannot be read now.
        """
        with self._owning:
            place, interruptions = self._place, self._interruptions
            before = len(self._held)
        # In this order: what is published after the history was read arrives.
        hears = self._source.hears()
        history = self._source.read(place)
        with self._owning:
            is_taken = self._catch_up(history, place)
            if is_taken and hears and interruptions == self._interruptions:
                self._release(before)
        self._send_waiting()
        return self._is_sure

    def give_up(self) -> None:
        """Go on with a gap: what arrives cannot wait any longer for the history to be read."""
        with self._owning:
            if self._held:
                self._give_up()
        self._send_waiting()

    def _give_up(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        self._put_gap(is_anew=self._place is None or held[0][0].epoch != self._place.epoch)
        for position, payload in held:
            self._pass_on(position, payload)
        self._is_sure = True

    def _catch_up(self, history: History, before: Position | None) -> bool:
        """Pass on what was missed; ``False`` if the history has to be read again.

        :param before: the place when it was read.
        """
        now, place = history.position, self._place
        if place is None:
            self._place = now
            if any(join.missed is None for join in self._joins.values()):
                # They have subscribed while the broker could not be reached.
                self._put_gap(is_anew=True)
            return True
        if before is None:
            # Another thread was faster; this one has read no messages.
            return False
        if now.epoch == place.epoch and now.offset >= before.offset:
            for offset, payload in history.messages:
                if offset > self._offset():
                    if offset > self._offset() + 1:
                        self._put_gap(is_anew=False)
                    self._pass_on(Position(now.epoch, offset), payload)
            if self._offset() < now.offset:
                self._put_gap(is_anew=False)
                self._place = now
            self._forget_lost()
            return True
        if place != before:
            return False
        # Another history, or one that was set back.
        self._put_gap(is_anew=True)
        for offset, payload in history.messages:
            self._pass_on(Position(now.epoch, offset), payload)
        self._place = now
        self._forget_lost()
        return True

    def _offset(self) -> int:
        assert self._place is not None
        return self._place.offset

    def _forget_lost(self) -> None:
        """Forget what this process has published and no history has any more: a gap."""
        place = self._place
        assert place is not None
        for number, own in list(self._owns.items()):
            position = own.position
            if position is not None and (position.epoch != place.epoch or position <= place):
                del self._owns[number]

    def _release(self, before: int) -> None:
        """Pass on what was held.

        :param before: how many had arrived before the history was read, which has them all.
        """
        held, self._held = self._held[before:], []
        self._held_bytes = 0
        place = self._place
        assert place is not None
        for number, (position, payload) in enumerate(held):
            if position.epoch == place.epoch and position.offset <= self._offset():
                continue
            if position.epoch != place.epoch or position.offset != self._offset() + 1:
                self._held = held[number:]
                self._held_bytes = sum(len(payload) for _, payload in self._held)
                return
            self._pass_on(position, payload)
        self._is_sure = True

    def _pass_on(self, position: Position, payload: bytes) -> None:
        self._place = position
        item = Item(position, (), payload=payload)
        origin, number = read_origin(payload)
        if origin == self._source.origin:
            own = self._owns.pop(number, None)
            if own is not None:
                item = Item(position, own.excluded, message=own.message)
            else:
                item.excluded = self._early.pop(number, ())
        self._put(item)

    # What waits to be sent

    def send(self, message: SharedMessage, excluded: Collection[AnyConnection] = ()) -> None:
        """Send each of them a message that has no position."""
        with self._owning:
            self._put(Item(None, excluded, message=message))
        self._send_waiting()

    def send_own(self, number: int) -> None:
        """Send a publication of this process that the broker has not taken, as far as is known.

        It has no position. Those that were taken before it come at theirs.
        """
        with self._owning:
            own = self._owns.pop(number, None)
            if own is not None:
                self._put_own(number, own)
        self._send_waiting()

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
        if self._joins:
            for join in self._joins.values():
                if join.missed is not None:
                    join.missed.append(item)

    def _put_gap(self, *, is_anew: bool) -> None:
        self._waiting.append(Gap(is_anew=is_anew))

    # Sending; in one thread at a time

    def _send_one(self, item: Any, later: list[Callable[[], object]]) -> None:
        if isinstance(item, Item):
            message, excluded = item.message(), item.excluded
            if message is None:
                later.append(functools.partial(_warn, self._source.name))
                return
            if self._joins:
                ahead = self._exclude(item.position)
                excluded = ahead.union(excluded) if ahead else excluded
            super()._send_one((message, excluded), later)
        elif isinstance(item, CatchUp):
            self._send_missed(item, later)
        else:
            self._send_gap(item, later)

    def _exclude(self, position: Position | None) -> set[AnyConnection]:
        """Return who has got a message already, or will get it with all that it has missed."""
        excluded = set()
        with self._owning:
            for connection, join in list(self._joins.items()):
                upto = join.upto
                if not join.is_done:
                    excluded.add(connection)
                elif position is not None and upto is not None and position.epoch == upto.epoch:
                    if position.offset <= upto.offset:
                        excluded.add(connection)
                    if position.offset >= upto.offset:
                        del self._joins[connection]
        return excluded

    def _send_missed(self, catch_up: CatchUp, later: list[Callable[[], object]]) -> None:
        connection, join = catch_up.connection, catch_up.join
        messages: list[SharedMessage] = []
        with self._owning:
            if self._joins.get(connection) is not join:
                # It has unsubscribed since.
                return
            join.is_done = True
            if join.upto is None:
                del self._joins[connection]
            if catch_up.says_gap and connection in self._gaps:
                messages.append(self._gaps[connection])
        for item in catch_up.items:
            message = item.message()
            if message is not None and connection not in item.excluded:
                messages.append(message)
        if messages:
            self.deliveries += len(messages)
            send_alone(connection, messages, later)

    def _send_gap(self, gap: Gap, later: list[Callable[[], object]]) -> None:
        later.append(functools.partial(self._source.note_gap, self._source.name))
        with self._owning:
            if gap.is_anew:
                for connection, join in list(self._joins.items()):
                    if join.is_done:
                        del self._joins[connection]
            told = [(c, message) for c, message in self._gaps.items() if c not in self._joins]
        for connection, message in told:
            send_alone(connection, [message], later)


def _is_whole(history: History, since: Position | None) -> bool:
    """Tell whether nothing is missing between a position and what was read after it."""
    if since is None or since.epoch != history.position.epoch:
        return False
    first = history.messages[0][0] if history.messages else history.position.offset + 1
    return since.offset + 1 == first


def _is_after(position: Position, after: Position | None) -> bool:
    return after is None or (position.epoch == after.epoch and position.offset > after.offset)


def _warn(name: str) -> None:
    logger.warning("A publication on %r is not from flask-ws, and is left out.", name)
