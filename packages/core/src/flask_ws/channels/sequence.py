"""The order of a channel with history: position after position, or a gap."""

from __future__ import annotations

from collections.abc import Sequence as Sequence_
from typing import TypeAlias

from ..plugin.history import History, Position
from .items import Gap

__all__ = ["Arrival", "Sequence"]

#: What is passed on next. A string, because Python 3.10 cannot evaluate it.
Arrival: TypeAlias = "tuple[Position, bytes] | Gap"

#: Messages, and bytes, that are held at most while the history cannot be read.
MANY_HELD = 1000
MANY_BYTES = 2**22


class Sequence:
    """What arrives on a channel, in the order of positions, each once.

    Its methods return what is to be passed on now. One thread at a time calls them.
    """

    __slots__ = ("_held", "_held_bytes", "is_sure", "place")

    def __init__(self) -> None:
        #: The position that was passed on last; ``None`` before the history has been read.
        self.place: Position | None = None
        #: Whether all that comes after it arrives.
        self.is_sure = False
        # What has arrived while that was not sure.
        self._held: list[tuple[Position, bytes]] = []
        self._held_bytes = 0

    @property
    def held(self) -> int:
        """How many messages wait for the history to be read."""
        return len(self._held)

    def take(self, position: Position, payload: bytes) -> Sequence_[Arrival]:
        """Take a message from the broker, and hold it if those before it may be missing."""
        place = self.place
        if (
            self.is_sure
            and place is not None
            and position.epoch == place.epoch
            and position.offset <= place.offset + 1
        ):
            if position.offset <= place.offset:
                return ()
            self.place = position
            return ((position, payload),)
        self.is_sure = False
        self._held.append((position, payload))
        self._held_bytes += len(payload)
        if len(self._held) > MANY_HELD or self._held_bytes > MANY_BYTES:
            return self.give_up()
        return ()

    def give_up(self) -> Sequence_[Arrival]:
        """Go on with a gap: what is held cannot wait any longer."""
        held, self._held, self._held_bytes = self._held, [], 0
        if not held:
            return ()
        epoch = held[0][0].epoch
        is_anew = self.place is None or epoch != self.place.epoch
        self.place, _ = held[-1]
        self.is_sure = True
        return [Gap(epoch if is_anew else None), *held]

    def catch_up(self, history: History, before: Position | None) -> list[Arrival] | None:
        """Take what was missed; ``None`` if the history has to be read again.

        :param history: what was read.
        :param before: the place when it was read.
        """
        now, place = history.position, self.place
        if place is None:
            self.place = now
            return []
        if before is None:
            # Another thread was faster; this one has read no messages.
            return None
        arrivals: list[Arrival] = []
        if now.epoch == place.epoch and now.offset >= before.offset:
            last = place.offset
            for offset, payload in history.messages:
                if offset > last:
                    if offset > last + 1:
                        arrivals.append(Gap())
                    arrivals.append((Position(now.epoch, offset), payload))
                    last = offset
            if last < now.offset:
                arrivals.append(Gap())
                last = now.offset
            self.place = Position(now.epoch, last)
            return arrivals
        if place != before:
            return None
        # Another history, or one that was set back.
        arrivals.append(Gap(now.epoch))
        arrivals += [(Position(now.epoch, offset), payload) for offset, payload in history.messages]
        self.place = now
        return arrivals

    def release(self, before: int) -> list[Arrival]:
        """Take what was held, as far as it follows on what was read.

        :param before: how many had arrived before the history was read, which has them all.
        """
        held, self._held = self._held[before:], []
        self._held_bytes = 0
        arrivals: list[Arrival] = []
        place = self.place
        assert place is not None
        for number, (position, payload) in enumerate(held):
            if position.epoch == place.epoch and position.offset <= place.offset:
                continue
            if position.epoch != place.epoch or position.offset != place.offset + 1:
                self._held = held[number:]
                self._held_bytes = sum(len(payload) for _, payload in self._held)
                break
            place = position
            arrivals.append((position, payload))
        else:
            self.is_sure = True
        self.place = place
        return arrivals
