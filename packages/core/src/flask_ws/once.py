"""Once: an object that one thread makes for all of them, with no lock held meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .process import after_fork

__all__ = ["NotYetError", "Once"]

T = TypeVar("T")


class NotYetError(RuntimeError):
    """The object is being made by the thread that asks for it."""


class Once(Generic[T]):
    """Makes an object when it is first asked for. Any thread may ask.

    ``make`` may run foreign code, such as a plugin's. That may log, and a log handler may ask for
    the object: it gets a :exc:`NotYetError`, where a lock would be a deadlock.

    :param make: makes the object, which is not ``None``.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._attempts: dict[str, Attempt] = {}
        #: The object, once it is made.
        self.made: T | None = None
        after_fork(self._start_anew)

    def _start_anew(self) -> None:
        # A thread that was making it exists in the parent only.
        self._attempts = {}

    def get(self) -> T:
        """Return the object; the first call makes it, and the others wait until it is made.

        :raises NotYetError: this thread itself is making it.
        """
        while self.made is None:
            mine = Attempt()
            attempt = self._attempts.setdefault("only", mine)
            if attempt is mine:
                try:
                    if self.made is None:
                        self.made = self._make()
                finally:
                    self._attempts.clear()
                    mine.ended.set()
            elif attempt.thread == mine.thread:
                raise NotYetError
            else:
                attempt.ended.wait()
        return self.made


class Attempt:
    """An attempt to make it, and the thread that makes it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.ended = threading.Event()
