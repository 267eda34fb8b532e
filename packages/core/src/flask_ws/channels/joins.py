"""Those who have subscribed to a channel with history, until they are as far as the others."""

from __future__ import annotations

from collections.abc import Iterable

from ..connection.async_connection import AnyConnection
from ..plugin.history import Position
from ..protocol.shared import SharedMessage
from .items import Item

__all__ = ["CatchUp", "Joins"]


class Join:
    """A connection that is about to be sent what it has missed."""

    __slots__ = ("is_done", "missed", "upto")

    def __init__(self) -> None:
        #: What is passed on while its history is read.
        self.missed: list[Item] | None = []
        #: What it has missed goes up to this position, where the others are not there yet.
        self.upto: Position | None = None
        #: Whether it has been sent that.
        self.is_done = False


class CatchUp:
    """What one connection has missed.

    :param items: the messages.
    :param says_gap: whether it is told of a gap before them.
    """

    __slots__ = ("connection", "items", "join", "last", "says_gap")

    def __init__(
        self, connection: AnyConnection, join: Join, items: list[Item], *, says_gap: bool
    ) -> None:
        self.connection = connection
        self.join = join
        self.items = items
        self.says_gap = says_gap
        #: What it is sent after them.
        self.last: SharedMessage | None = None


class Joins:
    """Connections that have not been sent all that they missed, or are ahead of the others.

    It also has what each subscriber is sent where messages are missing. One thread at a time calls
    its methods.
    """

    __slots__ = ("_gaps", "pending")

    def __init__(self) -> None:
        #: The connections.
        self.pending: dict[AnyConnection, Join] = {}
        self._gaps: dict[AnyConnection, SharedMessage] = {}

    def add(self, connection: AnyConnection) -> None:
        """Add a connection, which gets nothing before :meth:`begin`."""
        self.pending[connection] = Join()

    def remove(self, connection: AnyConnection) -> None:
        """Remove a connection, which may be unknown here."""
        self.pending.pop(connection, None)
        self._gaps.pop(connection, None)

    def note(self, item: Item) -> None:
        """Note what is passed on to the others."""
        for join in self.pending.values():
            if join.missed is not None:
                join.missed.append(item)

    def begin(
        self,
        connection: AnyConnection,
        read: Iterable[Item],
        numbers: set[int],
        after: Position | None,
        upto: Position | None,
        gap: SharedMessage | None,
        *,
        says_gap: bool,
    ) -> CatchUp | None:
        """Tell what a connection has missed; ``None`` if that was told, or it is not here.

        :param read: what was read for it.
        :param numbers: the numbers of this process's publications among that.
        :param after: of what was passed on meanwhile, it misses what comes after this position.
        :param upto: where it is then, if it is ahead of the others.
        :param gap: what it is sent where messages are missing.
        :param says_gap: whether they are here.
        """
        join = self.pending.get(connection)
        if join is None or join.missed is None:
            return None
        items = [
            *read,
            *(
                item
                for item in join.missed
                if item.number not in numbers
                and (item.position is None or _is_after(item.position, after))
            ),
        ]
        join.missed, join.upto = None, upto
        if gap is not None:
            self._gaps[connection] = gap
        return CatchUp(connection, join, items, says_gap=says_gap)

    @property
    def has_begun(self) -> bool:
        """Whether a connection was told what it has missed, and not been sent it yet."""
        return any(join.missed is None for join in self.pending.values())

    def end(self, catch_up: CatchUp) -> list[SharedMessage] | None:
        """Note that a connection is sent what it has missed.

        :return: what it is sent before; ``None`` if it has unsubscribed since.
        """
        connection, join = catch_up.connection, catch_up.join
        if self.pending.get(connection) is not join:
            return None
        join.is_done = True
        if join.upto is None:
            del self.pending[connection]
        if catch_up.says_gap and connection in self._gaps:
            return [self._gaps[connection]]
        return []

    def exclude(self, position: Position | None) -> set[AnyConnection]:
        """Return who has got a message already, or will get it with all that it has missed."""
        excluded = set()
        for connection, join in list(self.pending.items()):
            upto = join.upto
            if not join.is_done:
                excluded.add(connection)
            elif position is not None and upto is not None and position.epoch == upto.epoch:
                if position.offset <= upto.offset:
                    excluded.add(connection)
                if position.offset >= upto.offset:
                    del self.pending[connection]
        return excluded

    def tell_gap(self, epoch: str | None) -> list[tuple[AnyConnection, SharedMessage]]:
        """Return who is sent what, where messages are missing for all.

        :param epoch: that of the other history that begins, if one does.
        """
        if epoch is not None:
            for connection, join in list(self.pending.items()):
                # One who has been elsewhere may be ahead of the others in that one.
                if join.is_done and (join.upto is None or join.upto.epoch != epoch):
                    del self.pending[connection]
        return [(c, message) for c, message in self._gaps.items() if c not in self.pending]


def _is_after(position: Position, after: Position | None) -> bool:
    return after is None or (position.epoch == after.epoch and position.offset > after.offset)
