"""BrokerHealth: whether a broker's server can be reached, as far as is known; when to try again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import SystemRandom
from typing import ClassVar, NamedTuple

from ..exceptions import BrokerError
from .notices import Notices

__all__ = ["Attempt", "BrokerHealth"]

#: Not the app's generator, which it may have seeded.
chance = SystemRandom()
#: Seconds before the second attempt to reach a server that is gone.
FIRST_DELAY = 0.1
#: Seconds for which an attempt to reach a server that was gone keeps others from trying.
TRIAL_SECONDS = 3.0


class Attempt(NamedTuple):
    """An attempt to reach a server: what :meth:`.BrokerHealth.check` returns."""

    #: When it began, by the monotonic clock.
    began: float
    #: Whether it is the one that finds out whether a server that was gone is back.
    is_trial: bool


class BrokerHealth:
    """The state of one server of a broker, shared by its publishers and its listener.

    While the server is known to be gone, :meth:`check` raises at once. If there is a listener, it
    finds out when the server is back; otherwise a publisher may try from time to time, with
    growing pauses. Any thread may call any method; no lock is held during the calls of
    ``went_away`` and ``came_back``.

    :param name: what the server is and where, for logs and errors, such as ``"Redis at host:1"``.
    :param went_away: called with the reason when it is gone.
    :param came_back: called when all who use it can reach it again.
    :param beside: another server of the broker: the calls for both are made one at a time.
    """

    #: Seconds between two attempts to reach a server that is gone, at most.
    longest_delay: ClassVar[float] = 5.0

    def __init__(
        self,
        name: str,
        went_away: Callable[[str], object],
        came_back: Callable[[], object],
        *,
        beside: BrokerHealth | None = None,
    ) -> None:
        self.name = name
        #: Asks the listener, if there is one, to check its connection.
        self.on_doubt: Callable[[], object] | None = None
        self._went_away = went_away
        self._came_back = came_back
        self._notices: Notices = Notices() if beside is None else beside._notices
        self._lock = threading.Lock()
        self._is_gone = False
        # Whether the listener has lost its connection, or is not sure of it.
        self._is_deaf = False
        self._succeeded = 0.0
        self._attempts = 0
        self._retry_at = 0.0

    @staticmethod
    def backoff(attempts: int) -> float:
        """Return the seconds to wait after so many failed attempts, with jitter.

        :param attempts: how many there were, at least one.
        """
        delay = min(BrokerHealth.longest_delay, FIRST_DELAY * 2.0 ** min(attempts - 1, 10))
        # Many processes lose the same server at once, and should not return to it at once.
        return delay * chance.uniform(0.5, 1.0)

    @property
    def is_gone(self) -> bool:
        """Whether it is known to be gone."""
        return self._is_gone

    def check(self) -> Attempt:
        """Begin an attempt to publish.

        :raises BrokerError: it is gone, and the next attempt is not due.
        """
        now = time.monotonic()
        if not self._is_gone:
            return Attempt(now, is_trial=False)
        with self._lock:
            is_due = now >= self._retry_at and not (self._is_deaf and self.on_doubt is not None)
            if is_due:
                self._retry_at = now + TRIAL_SECONDS
        if not is_due:
            raise BrokerError(f"{self.name} is away.")
        return Attempt(now, is_trial=True)

    def fail(self, error: BaseException, attempt: Attempt) -> None:
        """Take note of an attempt to publish that has failed.

        :param error: what was raised.
        :param attempt: what :meth:`check` has returned.
        """
        with self._lock:
            if attempt.began < self._succeeded:
                # It comes late: another attempt has succeeded since.
                return
            # Attempts that were under way when it went away count as one.
            if attempt.is_trial or not self._is_gone:
                self._wait()
            if self.on_doubt is not None and not self._is_deaf:
                # The listener may not have noticed yet.
                self._is_deaf = True
                self._notices.leave(self.on_doubt)
            self._be_gone(error)
        self._notices.make()

    def fail_to_listen(self, error: BaseException) -> None:
        """Take note that the listener could not connect.

        :param error: what was raised.
        """
        with self._lock:
            self._is_deaf = True
            self._wait()
            self._be_gone(error)
        self._notices.make()

    def lose(self, error: BaseException) -> None:
        """Take note that the listener's connection was lost. Others may still reach the server.

        :param error: what was raised.
        """
        with self._lock:
            self._is_deaf = True
            self._be_gone(error)
        self._notices.make()

    def _wait(self) -> None:
        self._attempts += 1
        self._retry_at = time.monotonic() + self.backoff(self._attempts)

    def _be_gone(self, error: BaseException) -> None:
        if not self._is_gone:
            self._is_gone = True
            reason = f"{self.name}: {error}"
            self._notices.leave(lambda: self._went_away(reason))

    def succeed(self, *, listener: bool = False) -> None:
        """Take note that it was reached.

        :param listener: whether it was the listener, who has all its subscriptions there.
        """
        if not self._is_gone:
            return
        with self._lock:
            self._succeeded = time.monotonic()
            self._attempts = 0
            self._retry_at = 0.0
            if listener:
                self._is_deaf = False
            if self._is_gone and not self._is_deaf:
                self._is_gone = False
                self._notices.leave(self._came_back)
        self._notices.make()
