"""Locks that know who holds them: nothing foreign is to be called under one of ours."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

_allocate = threading.Lock


class WatchedLock:
    """A lock of :mod:`threading`, and where it was made."""

    held = threading.local()

    def __init__(self) -> None:
        self._lock = _allocate()
        frame = sys._getframe(1)
        self.owner = str(frame.f_globals.get("__name__"))
        self.place = f"{self.owner}:{frame.f_lineno}"
        #: Whether anybody has ever been ready to wait for it; else it is a flag.
        self.is_waited_for = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.is_waited_for |= blocking
        acquired = self._lock.acquire(blocking, timeout)
        if acquired:
            self.held.__dict__.setdefault("locks", []).append(self)
        return acquired

    def release(self) -> None:
        locks = self.held.__dict__.get("locks", [])
        if self in locks:
            locks.remove(self)
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def _at_fork_reinit(self) -> None:
        self._lock = _allocate()

    @classmethod
    def of_ours(cls) -> list[str]:
        """The locks of flask-ws's that this thread holds."""
        return [
            lock.place
            for lock in cls.held.__dict__.get("locks", [])
            if lock.owner.startswith("flask_ws") and lock.is_waited_for
        ]


class Watch(logging.Handler):
    """A log handler that sees which locks are held when something is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.held: list[tuple[str, list[str]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if held := WatchedLock.of_ours():
            self.held.append((record.getMessage(), held))


@contextlib.contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Watch the locks that are made meanwhile; fails if anything is logged under one."""
    monkeypatch.setattr(threading, "Lock", WatchedLock)
    watch = Watch()
    logging.getLogger("flask_ws").addHandler(watch)
    try:
        yield watch
    finally:
        logging.getLogger("flask_ws").removeHandler(watch)
    assert watch.held == []
