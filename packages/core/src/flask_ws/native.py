"""Threads of the operating system, also where monkey-patching has put greenlets in their place."""

from __future__ import annotations

import _thread
import contextlib
import importlib.util
from types import BuiltinFunctionType, ModuleType
from typing import Any

__all__ = [
    "HAS_THREADS",
    "Event",
    "allocate_lock",
    "get_ident",
    "is_monkey_patched",
    "start_thread",
]


def is_monkey_patched() -> bool:
    """Tell whether what the standard library calls threads are greenlets."""
    return type(_thread.start_new_thread) is not BuiltinFunctionType


def _find_original() -> ModuleType:
    spec = importlib.util.find_spec("_thread") if is_monkey_patched() else None
    if spec is None or spec.loader is None:
        return _thread
    # What is patched is the module. A second one, which nobody else has, is as it was.
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_original: Any = _find_original()
#: As functions of these names are, before they are patched.
start_thread = _original.start_new_thread
get_ident = _original.get_ident
allocate_lock = _original.allocate_lock
#: Whether there are such threads. An interpreter may have no second module.
HAS_THREADS = type(start_thread) is BuiltinFunctionType


class Event:
    """A flag that one such thread waits for, and that any thread or greenlet sets."""

    def __init__(self) -> None:
        # Whoever can take it finds the flag set.
        self._unset = allocate_lock()
        self._unset.acquire()

    def is_set(self) -> bool:
        """Tell whether the flag is set."""
        return not self._unset.locked()

    def set(self) -> None:
        """Set the flag."""
        # It is set already, by another at the same time or for longer.
        with contextlib.suppress(RuntimeError):
            self._unset.release()

    def clear(self) -> None:
        """Take the flag down."""
        self._unset.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is set; ``False`` when the time was up first."""
        if not self._unset.acquire(timeout=-1 if timeout is None else timeout):
            return False
        self.set()
        return True
