"""How much memory the connections of a process hold for their peers, and which close at its limit.

What peers can make a process hold is counted: parts of messages, messages that wait for a busy
handler, and what waits for slow readers. It is counted where it is held, in steps of a few KiB: so
messages that are handled at once cost nothing here. No thread waits for the lock: one that finds it
taken leaves its change to the thread that holds the lock.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections import deque
from typing import Protocol

from .concurrency import HomeThread
from .process import after_fork

__all__ = ["STEP", "Budget", "Holder", "budget"]

logger = logging.getLogger("flask_ws")

#: Bytes. A holder of less is not counted, nor are smaller changes.
STEP = 2**12

#: Past this part of the limit the connections that hold most are closed, until no more than the
#: second part is held. Closing them takes a moment: the rest of the limit is for that.
NEARLY = 7 / 8
ENOUGH = 3 / 4


class Holder(Protocol):
    """A part of a connection that holds memory."""

    @property
    def label(self) -> str:
        """The name of the connection in logs."""

    @property
    def home(self) -> HomeThread | None:
        """The thread where its primitives work, if they do in one only."""

    def let_go(self) -> int:
        """End the connection, without waiting, and free what is held; any thread may call it.

        :return: the close code.
        """


class Budget:
    """The memory that the connections of a process hold together."""

    def __init__(self) -> None:
        self._limit: float = math.inf
        # Changes that have not been added up yet: the holder, or None where several share it; the
        # change of all bytes held; and that of the bytes that the holder keeps in memory.
        self._changes: deque[tuple[Holder | None, int, int]] = deque()
        # Held by the thread that adds up; no thread waits for it.
        self._adding = threading.Lock()
        self._total = 0
        self._holders: dict[Holder, int] = {}
        # Those that are being closed, and have not freed everything yet.
        self._leaving: set[Holder] = set()
        self._untold: deque[tuple[str, int, int, int, int]] = deque()

    @property
    def limit(self) -> int | None:
        """Bytes that they may hold; ``None`` for no limit."""
        return None if math.isinf(self._limit) else int(self._limit)

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._limit = math.inf if limit is None else limit

    @property
    def total(self) -> int:
        """The bytes that are held and counted."""
        self.change(None, 0)
        return self._total

    def change(self, holder: Holder | None, held: int, weight: int | None = None) -> None:
        """Count that more is held, or less; never waits, and any thread may call it at any time.

        :param holder: what holds it; ``None`` for what several share.
        :param held: the change of the sum of all, in bytes.
        :param weight: the change of what the holder keeps in memory, also where it shares that
            with others, in bytes; as ``held`` by default.
        """
        self._changes.append((holder, held, held if weight is None else weight))
        # The thread that adds up checks for new changes when it has finished.
        while self._changes and self._adding.acquire(False):
            try:
                going = self._add_up()
                going += self._choose()
            finally:
                self._adding.release()
            for chosen, size in going:
                if chosen.home is None:
                    self._dismiss(chosen, size)
                else:
                    chosen.home.run(functools.partial(self._dismiss, chosen, size))

    def forget(self, size: int) -> None:
        """Count that so many bytes of what several share were freed.

        For finalizers, which may run at any moment, and under any lock: it closes no connection,
        and is added up with the next change.
        """
        self._changes.append((None, -size, 0))

    def _add_up(self) -> list[tuple[Holder, int]]:
        """Add up; return those that grew while more than the whole limit is held.

        They must close as well, because those chosen before have not freed their bytes yet.
        """
        holders, going = self._holders, []
        while self._changes:
            holder, held, weight = self._changes.popleft()
            self._total += held
            if holder is None:
                continue
            # Below 0 for a moment, where the changes of two threads arrive out of order.
            left = holders.get(holder, 0) + weight
            if left:
                holders[holder] = left
                if held > 0 and self._limit < self._total and holder not in self._leaving:
                    self._leaving.add(holder)
                    going.append((holder, left))
            else:
                holders.pop(holder, None)
                self._leaving.discard(holder)
        return going

    def _choose(self) -> list[tuple[Holder, int]]:
        """Return those to close, where little room is left: the largest, until there is more."""
        if self._total <= self._limit * NEARLY:
            return []
        expected = self._total - sum(self._holders[holder] for holder in self._leaving)
        if expected <= self._limit * NEARLY:
            return []
        going = []
        for holder, size in sorted(self._holders.items(), key=lambda item: -item[1]):
            if expected <= self._limit * ENOUGH:
                break
            if holder not in self._leaving:
                going.append((holder, size))
                self._leaving.add(holder)
                expected -= size
        return going

    def _dismiss(self, holder: Holder, size: int) -> None:
        code = holder.let_go()
        # The caller may hold locks, so the monitor writes the log.
        self._untold.append((holder.label, code, size, self._total, self.limit or 0))

    def tell(self) -> None:
        """Log which connections were closed."""
        while self._untold:
            logger.warning(
                "%s: closed with %d, because it held %d bytes, and the connections of this process "
                "%d, where the limit is %d (SOCK_MAX_BUFFERED)",
                *self._untold.popleft(),
            )

    def start_anew(self) -> None:
        """Count from 0 in a forked child, whose connections are its parent's."""
        limit = self._limit
        self.__init__()  # type: ignore[misc]
        self._limit = limit


#: The budget of this process.
budget = Budget()

after_fork(budget.start_anew)
