"""State that belongs to one process, and how a child resets it after a fork.

A child has none of its parent's threads, and must not use its connections and locks. So what
belongs to one process is kept in a :class:`PerProcess`, or registers its reset by
:func:`after_fork`; nothing else in flask-ws deals with forks.
"""

from __future__ import annotations

import itertools
import logging
import os
import types
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["PerProcess", "after_fork"]

logger = logging.getLogger("flask_ws")

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class PerProcess(Generic[Key, Value]):
    """Objects of which a process has one for each key; a child after a fork begins without any.

    Any thread may use it. No lock is held while an object is made: of two that are made at the
    same time for one key, the second is thrown away.
    """

    def __init__(self) -> None:
        self._made: dict[Key, Value] = {}
        after_fork(self._made.clear)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the object for a key.

        :param make: makes it, the first time.
        """
        found = self._made.get(key)
        if found is None:
            found = self._made.setdefault(key, make())
        return found

    def values(self) -> list[Value]:
        """Return the objects that there are."""
        return list(self._made.values())


#: What to call in a child. Each entry returns the function, or None when its object is gone.
_resets: dict[int, Callable[[], Callable[[], object] | None]] = {}
_numbers = itertools.count()


def after_fork(function: Callable[[], object]) -> None:
    """Have a function called in each child process right after it was forked.

    Functions are called in the order in which they were registered, also after one that raises.
    Where the system cannot fork, nothing is called.

    :param function: called without arguments. No other thread runs in the process then. A bound
        method is called as long as its object lives, and does not keep it alive.
    """
    for number, get_function in list(_resets.items()):
        if get_function() is None:
            _resets.pop(number, None)
    is_method = isinstance(function, types.MethodType)
    _resets[next(_numbers)] = weakref.WeakMethod(function) if is_method else lambda: function


def _start_anew() -> None:
    for get_function in list(_resets.values()):
        function = get_function()
        if function is not None:
            try:
                function()
            except Exception:
                logger.exception("Resetting %r in a forked process failed.", function)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
