"""Taking a lock without waiting, where a signal handler may raise at any moment.

After ``lock.acquire(False)`` the interpreter runs signal handlers. If one raises, nobody knows that
the lock was taken, and it is held for ever. So it is taken by an iterator: a ``for`` statement
calls and assigns in one step::

    held = False
    try:
        for held in attempts(lock):
            break
        ...
    finally:
        if held:
            lock.release()

``with lock:`` has no such gap. Nor has a ``finally`` that calls nothing before ``release()``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from ..concurrency import Lock

__all__ = ["attempts", "is_held"]

_at_once = itertools.repeat(False)


def attempts(lock: Lock) -> Iterator[bool]:
    """Return an iterator of which each step tries to take a lock, and tells whether it did."""
    return map(lock.acquire, _at_once)


def is_held(lock: Lock, timeout: float | None = None) -> bool:
    """Tell whether a lock is held, still after ``timeout`` seconds if that is given."""
    held = False
    try:
        for held in attempts(lock) if timeout is None else map(lock.acquire, (True,), (timeout,)):
            break
    finally:
        if held:
            lock.release()
    return not held
