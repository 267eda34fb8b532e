"""Threads of flask-ws's own, used again by whoever comes next."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..process import PerProcess

__all__ = ["ThreadPool", "thread_pool"]

#: Seconds for which a thread waits for more work before it ends.
LINGER = 1.0
#: How many may wait so: enough for all connections that are being opened at one time.
MOST_IDLE = 8


class _Seat:
    """Where an idle thread waits."""

    __slots__ = ("job", "taken")

    def __init__(self) -> None:
        self.job: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        # Free once there is a job. Made by the name in threading, which monkey-patching replaces.
        self.taken = threading.Lock()
        self.taken.acquire()


class ThreadPool:
    """Threads that run a function each. To wake an idle one takes a third of starting another.

    :param linger: seconds for which a thread waits for more to do.
    """

    def __init__(self, linger: float = LINGER) -> None:
        self._linger = linger
        self._lock = threading.Lock()
        self._busy = 0
        self._idle: list[_Seat] = []

    def __len__(self) -> int:
        """Count the threads that are at work."""
        return self._busy

    def start(self, limit: int, function: Callable[..., object], *args: Any) -> bool:
        """Call a function on a thread of its own.

        :param limit: how many threads may be at work.
        :param function: the function.
        :param args: its arguments.
        :return: ``False`` if there are so many already.
        :raises RuntimeError: the system has no more.
        """
        with self._lock:
            if self._busy >= limit:
                return False
            self._busy += 1
            seat = self._idle.pop() if self._idle else None
        if seat is not None:
            seat.job = function, args
            seat.taken.release()
            return True
        try:
            threading.Thread(
                target=self._run, args=(function, *args), name="flask_ws.handler", daemon=True
            ).start()
        except BaseException:
            self._finish()
            raise
        return True

    def _run(self, function: Callable[..., object], *args: Any) -> None:
        job: tuple[Callable[..., object], tuple[Any, ...]] | None = function, args
        # An idle thread holds on to nothing.
        del function, args
        while job is not None:
            try:
                job[0](*job[1])
            finally:
                job = None
                self._finish()
            job = self._wait()

    def _finish(self) -> None:
        with self._lock:
            self._busy -= 1

    def _wait(self) -> tuple[Callable[..., object], tuple[Any, ...]] | None:
        """Wait for more to do; ``None`` if there is none for a while."""
        seat = _Seat()
        with self._lock:
            if len(self._idle) >= MOST_IDLE:
                return None
            self._idle.append(seat)
        if not seat.taken.acquire(True, self._linger):
            with self._lock:
                if seat in self._idle:
                    self._idle.remove(seat)
                    return None
            # Just taken: the job is on its way.
            seat.taken.acquire()
        return seat.job


_pools: PerProcess[None, ThreadPool] = PerProcess()


def thread_pool() -> ThreadPool:
    """Return this process's pool."""
    return _pools.get(None, ThreadPool)
