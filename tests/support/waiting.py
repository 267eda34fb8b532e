"""Waiting for what tells nobody when it happens."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable

__all__ = ["PATIENCE", "until"]

#: More than anything in memory takes, on a busy machine too: what takes longer hangs.
PATIENCE = 30.0
#: Seconds between two looks.
PAUSE = 0.002


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail, and say what each thread does, if it does not."""
    # Not time.sleep(), which tests replace.
    pause = threading.Event()
    for _ in range(int(PATIENCE / PAUSE)):
        if condition():
            return
        pause.wait(PAUSE)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = [
        f"{names.get(number)}:\n{''.join(traceback.format_stack(frame, limit=12))}"
        for number, frame in sys._current_frames().items()
    ]
    raise AssertionError("\n".join(("it never came true", *stacks)))
