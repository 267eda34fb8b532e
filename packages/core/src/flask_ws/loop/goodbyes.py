"""Who is told goodbye, by a close frame with 1001, and when; and who has not answered."""

from __future__ import annotations

import functools
import heapq
import itertools
import time
from collections.abc import Callable, Mapping

from ..connection.async_connection import AnyConnection
from ..protocol.close_codes import GOING_AWAY
from .drain import drain
from .keepalive import Watch

__all__ = ["Goodbyes"]

GOODBYE = "the server is stopping"
#: Seconds that what is cancelled has to end, before the server ends the process; and those before
#: which nothing is cancelled, where that leaves less.
CANCELLED, LEAST = 1.0, 2.0


class Goodbyes:
    """The goodbyes to the connections of a monitor.

    :param watches: those that it watches over.
    :param ask: calls a function of a plugin, and returns a default if that raises.
    :param see_to: calls a function for a connection, which alone ends if that raises.
    """

    def __init__(
        self,
        watches: Mapping[AnyConnection, Watch],
        ask: Callable[[Callable[[], bool | None], bool], bool | None],
        see_to: Callable[[AnyConnection, Callable[[], object]], object],
    ) -> None:
        self._watches = watches
        self._ask = ask
        self._see_to = see_to
        # Those that are told later, and when.
        self._planned: list[tuple[float, int, Watch]] = []
        self._number = itertools.count()
        # Those that were told, and have not answered.
        self._told: dict[Watch, None] = {}
        #: How many wait until it is known when others take over.
        self.undecided = 0
        #: When the last that was planned so far is told.
        self.last = 0.0

    @property
    def are_planned(self) -> bool:
        """Whether some are told later."""
        return bool(self._planned)

    @property
    def are_going_on(self) -> bool:
        """Whether connections are said goodbye to."""
        return bool(self.undecided or self._planned or self._told)

    def plan(self, watches: list[Watch], now: float) -> None:
        """Decide when connections are told, unless that is decided; tell those that are due."""
        undecided = [watch for watch in watches if not watch.has_plan]
        for watch in undecided:
            watch.leaving_since = min(watch.leaving_since, now)
        planned = drain.plan(undecided, now, self._ask_successors(undecided))
        self.undecided = len(undecided) - len(planned)
        for when, watch in planned:
            watch.has_plan = True
            self.last = max(self.last, when)
            heapq.heappush(self._planned, (when, next(self._number), watch))
        self.say_due(now)

    def _ask_successors(self, watches: list[Watch]) -> set[bool | None]:
        if drain.begun or not drain.seconds:
            # The process itself answers meanwhile; or nobody is waited for.
            return set()
        answers: set[bool | None] = set()
        for has_successor in {watch.has_successor for watch in watches}:
            if has_successor is not None:
                answers.add(self._ask(has_successor, True))
        return answers

    def say_due(self, now: float) -> None:
        """Tell those whose time has come."""
        # Two threads may do so at the end of the process.
        while self._planned and self._planned[0][0] <= now:
            try:
                _, _, watch = heapq.heappop(self._planned)
            except IndexError:
                return
            if self._watches.get(watch.connection) is watch:
                self._see_to(watch.connection, functools.partial(self._tell, watch))

    def _tell(self, watch: Watch) -> None:
        if watch.goodbye_until is None:
            watch.goodbye_until = time.monotonic() + watch.wait_for_goodbye
            if not drain.begun:
                watch.connection.note_stop()
            watch.connection.go_away(GOING_AWAY, GOODBYE)
            self._told[watch] = None

    def cancel_late(self, watches: list[Watch], now: float) -> None:
        """Cancel async handlers for which their server, which stops, waits no longer."""
        for watch in watches:
            patience = max(watch.stop_timeout - CANCELLED, min(watch.stop_timeout, LEAST))
            if watch.connection.at_work and now - watch.leaving_since >= patience:
                watch.connection.cancel_work()

    def lose_silent(self, now: float) -> None:
        """Give up those that have not answered in time."""
        # Another thread may tell some meanwhile.
        for watch in list(self._told):
            if watch.goodbye_until is not None and now >= watch.goodbye_until:
                watch.connection.lose("the peer did not answer the close frame")
            if not watch.active or watch.connection.close_code is not None:
                del self._told[watch]

    def clear(self) -> None:
        """Forget all: no connection is left."""
        self._planned.clear()
        self._told.clear()
        self.undecided = 0
