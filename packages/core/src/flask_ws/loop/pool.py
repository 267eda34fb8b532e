"""Threads of flask-ws's own, which are reused."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from ..process import PerProcess
from .monitor import after_goodbye, count_connections

__all__ = ["ThreadPool", "thread_pool"]

#: Seconds for which a thread waits for more work before it ends.
LINGER = 1.0
#: Idle threads at most: enough for all connections that are being opened at one time.
MOST_IDLE = 8
#: Seconds that a process, at its end, waits for threads whose connections have ended.
FAREWELL = 2.0


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
        self._threads: set[threading.Thread] = set()
        self._closed = False
        # Set when a thread ends.
        self._ended = threading.Event()

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
        thread = threading.Thread(
            target=self._run, args=(function, *args), name="flask_ws.handler", daemon=True
        )
        self._threads.add(thread)
        try:
            thread.start()
        except BaseException:
            self._threads.discard(thread)
            self._finish()
            raise
        return True

    def close(self, seconds: float, stuck: int = 0) -> None:
        """Have idle threads end, and wait for the others: the process ends.

        They clean up after their connections. And without the interpreter's lock (GIL), Python may
        hang at the end of a process that has a thousand daemon threads.

        :param seconds: how long to wait for them.
        :param stuck: how many need not be waited for.
        """
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for seat in idle:
            seat.taken.release()
        deadline = time.monotonic() + seconds
        while True:
            self._ended.clear()
            left = deadline - time.monotonic()
            if len(self._threads) <= stuck or left <= 0:
                break
            # With greenlets, a second signal raises SystemExit in whichever of them is waiting.
            with contextlib.suppress(SystemExit):
                self._ended.wait(left)

    def _run(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._work(function, *args)
        finally:
            self._threads.discard(threading.current_thread())
            self._ended.set()

    def _work(self, function: Callable[..., object], *args: Any) -> None:
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
            if self._closed or len(self._idle) >= MOST_IDLE:
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


def _end() -> None:
    for pool in _pools.values():
        # The handlers of connections that are still there have been given their time.
        pool.close(FAREWELL, stuck=count_connections())


after_goodbye(_end)
