"""Waking a thread for which a message has come."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable

from ..system import descriptor_limit

__all__ = ["Bell", "Ringer", "make_bell"]

#: The part of the descriptors that a process may have open which bells take at most.
SHARE = 1 / 8

#: The descriptors of those that there are.
_open: set[int] = set()


class Bell:
    """Wakes one thread, as releasing a lock would, in less time, at the price of a descriptor.

    Who releases a lock goes on to hold the interpreter's lock (GIL), and the thread that wakes has
    to wait for that first. To ring a bell lets go of it while the system wakes the thread.

    :raises OSError: there is no descriptor left.
    """

    __slots__ = ("_asleep", "_fd")

    def __init__(self) -> None:
        self._fd = os.eventfd(0)
        _open.add(self._fd)
        # Has an item while the thread sleeps, or is about to; to take it out is to decide that it
        # does not go on to.
        self._asleep: list[None] = []

    def sleep(self, is_needed: Callable[[], bool]) -> None:
        """Sleep until :meth:`ring` is called, or not as long. One thread at a time.

        :param is_needed: tells whether there is nothing yet to ring for.
        """
        self._asleep.append(None)
        if is_needed() or not self._take():
            os.eventfd_read(self._fd)

    def ring(self) -> None:
        """Wake the thread, if it sleeps; to be called when there is something for it."""
        if self._asleep and self._take():
            os.eventfd_write(self._fd, 1)

    def _take(self) -> bool:
        try:
            self._asleep.pop()
        except IndexError:
            return False
        return True

    # Here, since whoever rings, or is about to, holds a reference. The system may be ending.
    def __del__(
        self, forget: Callable[[int], None] = _open.discard, close: Callable[[int], None] = os.close
    ) -> None:
        if hasattr(self, "_fd"):
            forget(self._fd)
            close(self._fd)


class Ringer:
    """Rings the bells of one loop's connections; used on the loop's thread only.

    A thread that is woken usually runs at once, in place of the loop. So a turn of the loop that
    has messages for many wakes them together, at its end: the loop's work and then theirs takes
    less time than by turns.

    :param loop: the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Bell] = deque()
        # Whether one was rung in this turn of the loop.
        self._has_rung = False

    def ring(self, bell: Bell) -> None:
        """Ring a bell: now, if it is the first in this turn of the loop, or at its end."""
        if self._has_rung:
            self._waiting.append(bell)
        else:
            # In this order: an interruption, by a signal, must not leave the others waiting.
            self._loop.call_soon(self._end_turn)
            self._has_rung = True
            bell.ring()

    def _end_turn(self) -> None:
        self._has_rung = False
        waiting = self._waiting
        try:
            while waiting:
                waiting[0].ring()
                waiting.popleft()
        finally:
            if waiting:
                self._loop.call_soon(self._end_turn)
                self._has_rung = True


def make_bell() -> Bell | None:
    """Make a bell; ``None`` where the system has none, or too few descriptors are left for it."""
    limit = descriptor_limit()
    if not hasattr(os, "eventfd") or (limit is not None and len(_open) >= limit * SHARE):
        return None
    try:
        return Bell()
    except OSError:
        return None
