"""Where the messages of a channel with history come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..plugin.history import History, Position

__all__ = ["Source"]


class Source:
    """Where the messages of one channel come from.

    :param name: the channel's name, for the log.
    :param origin: identifies this process.
    :param read: reads the history: the position, and what is kept after another.
    :param hears: tells whether what is published arrives in this process.
    :param heal: has :meth:`.KeptSubscribers.heal` called, now or soon.
    :param note_gap: told of the channel's name where messages are missing.
    """

    __slots__ = ("heal", "hears", "name", "note_gap", "origin", "read")

    def __init__(
        self,
        name: str,
        origin: bytes,
        read: Callable[[Position | None], History],
        hears: Callable[[], bool],
        heal: Callable[[Any], object],
        note_gap: Callable[[str], object],
    ) -> None:
        self.name = name
        self.origin = origin
        self.read = read
        self.hears = hears
        self.heal = heal
        self.note_gap = note_gap
