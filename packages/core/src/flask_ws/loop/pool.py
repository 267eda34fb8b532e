"""Threads of flask-ws's own, which are reused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ..process import PerProcess

__all__ = ["ThreadPool", "thread_pool"]

#: Seconds for which a thread waits for more work before it ends.
LINGER = 1.0
#: Idle threads at most: enough for all connections that are being opened at one time.
MOST_IDLE = 8


class _Seat:
    """Where an idle thread waits."""

    __slots__ = ("job", "taken")

    def __init__(self) -> None:
        self.job: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        # Released once there is a job. Looked up in threading, where monkey-patching replaces it.
        self.taken = threading.Lock()
        self.taken.acquire()


class ThreadPool:
    """Threads that run a function each. Waking one takes a third of the time of starting one.

    :param linger: seconds for which an idle thread waits for another function.
    """

    def __init__(self, linger: float = LINGER) -> None:
        self._linger = linger
        self._lock = threading.Lock()
        self._busy = 0
        self._idle: list[_Seat] = []

    def __len__(self) -> int:
        """Return the number of threads that run a function."""
        return self._busy

    def start(self, limit: int, function: Callable[..., object], *args: Any) -> bool:
        """Call a function on a thread of its own.

        :param limit: how many threads may run a function at a time.
        :param function: the function.
        :param args: its arguments.
        :return: ``False`` if there are so many already.
        :raises RuntimeError: the system has no more threads.
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
        # An idle thread keeps no reference to its last job.
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
        """Wait for another job; ``None`` if this thread is to end."""
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
            # Another thread has just taken the seat, and sets the job next.
            seat.taken.acquire()
        return seat.job


_pools: PerProcess[None, ThreadPool] = PerProcess()


def thread_pool() -> ThreadPool:
    """Return this process's pool."""
    return _pools.get(None, ThreadPool)
