"""Where code stands that runs on another thread, or in another greenlet."""

from __future__ import annotations

import os
import sys
import sysconfig
import types
import weakref
from typing import Any

from . import native

__all__ = ["Whereabouts", "line_of"]

#: Folders of files that are not the app's.
FOREIGN = tuple(
    path + os.sep
    for path in {
        os.path.dirname(os.path.abspath(__file__)),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
)


class Whereabouts:
    """Where the code that makes it is found later.

    :param thread: the identifier of its thread; this one's by default.
    """

    __slots__ = ("_greenlet", "_thread")

    def __init__(self, thread: int | None = None) -> None:
        self._thread = native.get_ident() if thread is None else thread
        greenlets: Any = sys.modules.get("greenlet") if thread is None else None
        current = None if greenlets is None else greenlets.getcurrent()
        # A thread's main greenlet is found by the thread.
        own = current is not None and current.parent is not None
        self._greenlet = weakref.ref(current) if own else None

    @property
    def in_greenlet(self) -> bool:
        """Whether other greenlets may run in its place."""
        return self._greenlet is not None

    def __str__(self) -> str:
        """Describe the line of the app that it stands on, as ``app.py:12 in feed``."""
        frame = self.find_frame()
        innermost = frame
        while frame is not None and not is_own(frame):
            frame = frame.f_back
        frame = frame or innermost
        if frame is None:
            return "an unknown line"
        return describe(frame)

    def find_frame(self) -> types.FrameType | None:
        """Return the innermost frame of its stack; ``None`` where it has ended."""
        greenlet: Any = None if self._greenlet is None else self._greenlet()
        if greenlet is not None and greenlet.gr_frame is not None:
            frame: types.FrameType = greenlet.gr_frame
            return frame
        return sys._current_frames().get(self._thread)


def line_of(coroutine: Any) -> str:
    """Describe the line of the app on which a coroutine waits, as ``app.py:12 in feed``."""
    found: types.FrameType | None = None
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None and (found is None or is_own(frame)):
            found = frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return "an unknown line" if found is None else describe(found)


def describe(frame: types.FrameType) -> str:
    """Describe the line on which a frame stands."""
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


def is_own(frame: types.FrameType) -> bool:
    """Tell whether a frame is of the app's own code."""
    name = frame.f_code.co_filename
    return not name.startswith(FOREIGN) and not name.startswith("<")
