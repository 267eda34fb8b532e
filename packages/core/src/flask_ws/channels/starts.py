"""Where a connection begins that subscribes to a channel with history."""

from __future__ import annotations

from typing import NamedTuple

from ..plugin.history import History, Position

__all__ = ["ALL", "Start", "find_start"]

#: A position that no history has: all that is kept comes after it.
ALL = Position("", 0)


class Start(NamedTuple):
    """Where a connection begins."""

    #: Of what is passed on while it subscribes, it gets what comes after this position.
    after: Position | None
    #: Its position once it has what it missed.
    upto: Position | None
    #: Its position, if it is ahead of the others by then.
    ahead: Position | None
    #: Whether it gets all that it missed.
    recovered: bool
    #: Whether that is in the history that was read.
    from_history: bool


def find_start(
    place: Position | None, since: Position | None, history: History | None, *, is_current: bool
) -> Start:
    """Find where a connection begins.

    :param place: where the others are.
    :param since: the position up to which it has the messages; :data:`ALL` for none of what is
        kept, and ``None`` for all.
    :param history: what was read after ``since``, if it was.
    :param is_current: whether nothing came after ``since`` a moment ago.
    """
    after, upto = place, place
    recovered = since is None or is_current
    from_history = False
    if history is not None and place is not None and history.position.epoch == place.epoch:
        after, upto = history.position, max(place, history.position)
        recovered = since is ALL or _is_whole(history, since)
        from_history = True
    elif since is not None and place is not None and since.epoch == place.epoch:
        if since >= place:
            # All that comes after it comes to all others as well.
            after = upto = since
            recovered = True
        elif is_current:
            after = since
    ahead = None if upto == place else upto
    if history is None and since is not None and not recovered:
        # It may be of a history that this process has not heard of yet.
        ahead = since
    return Start(after, upto, ahead, recovered, from_history)


def _is_whole(history: History, since: Position | None) -> bool:
    """Tell whether nothing is missing between a position and what was read after it."""
    if since is None or since.epoch != history.position.epoch:
        return False
    first = history.messages[0][0] if history.messages else history.position.offset + 1
    return since.offset + 1 == first
