"""Reading the histories of channels whose messages may not all have arrived."""

from __future__ import annotations

import logging
import threading
from collections import deque

from ..exceptions import BrokerError
from ..wording import counted
from ..worker import Worker
from .history import KeptSubscribers

__all__ = ["Healer"]

logger = logging.getLogger("flask_ws")

NAME = "flask_ws.Healer"

#: Seconds from one attempt to the next, the first time and at most.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
#: Attempts after which messages that arrive do not wait any longer for those before them.
MANY_ATTEMPTS = 6


class Healer:
    """Has channels read their histories, on a thread of its own while there are any to be read."""

    def __init__(self) -> None:
        # The channels, and how often they have been tried in vain.
        self._waiting: dict[KeptSubscribers, int] = {}
        self._gaps: deque[str] = deque()
        self._called = threading.Event()
        self._worker = Worker(NAME, self._run, lambda: bool(self._waiting or self._gaps))

    def add(self, subscribers: KeptSubscribers) -> None:
        """Have a channel read its history."""
        if subscribers not in self._waiting:
            self._waiting[subscribers] = 0
            self._start()

    def note_gap(self, name: str) -> None:
        """Have it logged that a channel has a gap."""
        self._gaps.append(name)
        self._start()

    def wake(self) -> None:
        """Try again now: the broker is back."""
        self._called.set()

    def _start(self) -> None:
        try:
            self._worker.start()
        except RuntimeError:
            # The system has no more threads; the next call tries again.
            logger.exception("The histories of channels cannot be read now.")

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._waiting or self._gaps:
            self._called.clear()
            if self._heal_all():
                pause = FIRST_PAUSE
            self._tell_gaps()
            if self._waiting:
                self._called.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _heal_all(self) -> bool:
        """Try all of them once; ``True`` if one was healed."""
        is_any_healed = False
        for subscribers, attempts in list(self._waiting.items()):
            # Before: what is added from now on has to be tried again.
            self._waiting.pop(subscribers, None)
            if not subscribers:
                # Nobody is subscribed; the next one reads it.
                continue
            try:
                is_healed = subscribers.heal()
            except BrokerError:
                is_healed = False
                if attempts >= MANY_ATTEMPTS:
                    subscribers.give_up()
            if is_healed:
                is_any_healed = True
            else:
                self._waiting[subscribers] = attempts + 1
        return is_any_healed

    def _tell_gaps(self) -> None:
        gaps = set()
        while self._gaps:
            gaps.add(self._gaps.popleft())
        if gaps:
            logger.warning(
                "Messages of %s, such as %r, were lost between the broker and this process, and "
                "are not in the history either (SOCK_HISTORY): subscribers have a gap.",
                counted(len(gaps), "channel"),
                min(gaps),
            )
