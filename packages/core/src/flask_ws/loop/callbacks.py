"""The callback that a loop is in, and whose it is, as another thread sees them."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import sysconfig
from contextvars import Context, ContextVar
from types import FrameType
from typing import NamedTuple

from .. import native
from ..whereabouts import Whereabouts, is_own

__all__ = ["Callbacks", "Hold", "current_label", "find_label"]

#: The connection that a task, and what that starts, belong to: its name in logs.
current_label: ContextVar[str] = ContextVar("flask_ws.current_label")

#: Where callbacks come from; what they call next is the app's.
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MACHINERY = (
    os.path.dirname(asyncio.__file__),
    *(os.path.join(HERE, room) for room in ("loop", "http", "views", "connection", "worker.py")),
)
#: What is in the path of a file of a debugger: Python's own, and that of editors.
DEBUGGERS = (f"{os.sep}bdb.py", "pydevd")


class Hold(NamedTuple):
    """What a loop is at."""

    #: The function that its callback is, or has called first of the app's.
    first: FrameType
    #: That of the app which this is in by now.
    last: FrameType
    #: What has called the callback; ``None`` where another greenlet holds the loop's thread.
    caller: FrameType | None


class Callbacks:
    """Finds the callback that a loop is in.

    :param loop: the loop.
    :param frame: that of one of its callbacks, by which others are found. It makes this object.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, frame: FrameType) -> None:
        self._loop = loop
        self._thread = native.get_ident()
        self._where = Whereabouts()
        # Every callback is called from there: the loop's own code, or uvloop's caller.
        self._depth = len(_stack(frame.f_back))
        self._code = None if frame.f_back is None else frame.f_back.f_code

    def find(self) -> list[Hold]:
        """Find out what the loop is at, as far as that is of the app.

        :return: its callback; and before that, where its greenlet waits, the one which has the
            thread meanwhile.
        """
        found, stack = [], _stack(self._where.find_frame())
        if self._where.in_greenlet:
            others = _stack(sys._current_frames().get(self._thread))
            if others[:1] != stack[:1]:
                found.append(_make_hold(others, None))
        caller = stack[self._depth - 1] if 0 < self._depth < len(stack) else None
        if caller is not None and caller.f_code is self._code:
            found.append(_make_hold(stack[self._depth :], caller))
        return [hold for hold in found if hold is not None]

    def find_label(self, hold: Hold) -> str:
        """Return the name of the connection for which the loop is held; empty if nobody knows."""
        if hold.caller is None:
            return ""
        label = find_label(asyncio.current_task(self._loop)) or _label_of_caller(hold.caller)
        # Else it has ended meanwhile, and the name is that of the next.
        return label if any(now.first is hold.first for now in self.find()) else ""


def find_label(task: object) -> str:
    """Return the name of the connection that a task belongs to; empty if it is nobody's."""
    get_context = getattr(task, "get_context", None)
    if get_context is None:
        return getattr(task, "label", "")
    label: str = get_context().get(current_label, "")
    return label


def _make_hold(stack: list[FrameType], caller: FrameType | None) -> Hold | None:
    """Make what is known of a hold, of its own stack; ``None`` if nobody is to be told."""
    own = [frame for frame in stack if is_own(frame)]
    if not own and caller is not None:
        own = [frame for frame in stack if not _is_machinery(frame)]
    if not own or any(_is_debugger(frame) for frame in stack):
        return None
    return Hold(own[0], own[-1], caller)


def _label_of_caller(frame: FrameType) -> str:
    """Return the label of a callback that is no task's: it has the context of who wanted it."""
    handle = frame.f_locals.get("self")
    if isinstance(handle, asyncio.Handle):
        label: str = handle._context.get(current_label, "")  # type: ignore[attr-defined]
        return label
    return _label_of_entered()


def _label_of_entered() -> str:
    """Return the label of the context that is entered now: uvloop shows nobody which that is."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # Another thread could find it entered by this one.
        return ""
    labels = set()
    for each in gc.get_objects():
        if type(each) is Context and current_label in each:
            try:
                each.run(bool)
            except RuntimeError:
                labels.add(each[current_label])
    # Threads of the app may have entered others.
    return labels.pop() if len(labels) == 1 else ""


def _stack(frame: FrameType | None) -> list[FrameType]:
    """Return a frame and those that have called it, the outermost first."""
    stack = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    stack.reverse()
    return stack


def _is_machinery(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(MACHINERY)


def _is_debugger(frame: FrameType) -> bool:
    return any(each in frame.f_code.co_filename for each in DEBUGGERS)
