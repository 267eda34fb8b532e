"""Running something in the background: a thread, or a greenlet, while there is work."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from .concurrency import Concurrency, HomeThread, threads

__all__ = ["Worker"]

logger = logging.getLogger("flask_ws")

#: Seconds that a worker waits after an error, so that a lasting one does not fill the log.
PAUSE = 0.1


class Worker:
    """A function that runs in the background, on one thread or greenlet, while there is work.

    The function is called again and again as long as there is work, also when it has raised: an
    error is logged, and a short pause follows. Where the thread itself is ended, as a greenlet that
    is killed, another one takes its place. So work that was announced by :meth:`start` is done,
    however earlier calls have ended.

    :param name: the name of the thread.
    :param target: does the work that there is, and may wait for more. It is called without
        arguments, by one thread at a time, and should return soon after there is none.
    :param has_work: tells whether there is any. It must not wait or raise.
    :param concurrency: what to run it on.
    :param home: the thread in which greenlets are to be started, if they work in one only.
    """

    def __init__(
        self,
        name: str,
        target: Callable[[], object],
        has_work: Callable[[], bool],
        *,
        concurrency: Concurrency = threads,
        home: HomeThread | None = None,
    ) -> None:
        self._name = name
        self._target = target
        self._has_work = has_work
        self._concurrency = concurrency
        self._home = home
        self._lock = concurrency.lock()
        # An object for the thread that works, or is about to.
        self._current: object | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._current is not None

    def start(self) -> None:
        """Make sure that the work that ``has_work`` reports is done; any thread may call it.

        :raises RuntimeError: there is no thread, and the system cannot start another.
        """
        if self._current is not None:
            return
        if self._home is not None and not self._home.is_here():
            self._home.run(self.start)
            return
        with self._lock:
            if self._current is not None:
                return
            current = self._current = object()
        # Without the lock: a plugin's way to start one may log, or wait.
        try:
            self._concurrency.spawn(functools.partial(self._run, current), self._name)
        except BaseException:
            # A thread that was started before a Ctrl-C ends: it is not the current one.
            if self._current is current:
                self._current = None
            raise

    def _run(self, current: object) -> None:
        try:
            while self._current is current:
                try:
                    self._target()
                except Exception:
                    logger.exception("%s failed, and goes on.", self._name)
                    self._concurrency.event().wait(PAUSE)
                if self._is_done(current):
                    return
        except BaseException:
            # This thread ends, but the work goes on.
            if self._current is current and not self._is_done(current):
                self._current = None
                try:
                    self.start()
                except RuntimeError:
                    logger.exception("%s ended, and cannot be started again now.", self._name)
            raise

    def _is_done(self, current: object) -> bool:
        # In this order: a caller that adds work after the check finds no thread, and starts one.
        self._current = None
        if not self._has_work():
            return True
        with self._lock:
            if self._current is not None:
                return True
            self._current = current
            return False
