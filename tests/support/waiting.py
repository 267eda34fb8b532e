"""Waiting for what tells nobody when it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["PATIENCE", "until"]

#: More than anything in memory takes: what takes longer hangs.
PATIENCE = 10.0
#: Seconds between two looks.
PAUSE = 0.002


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds; fail if it does not come true."""
    # Not time.sleep(), which tests replace.
    pause = threading.Event()
    for _ in range(int(PATIENCE / PAUSE)):
        if condition():
            return
        pause.wait(PAUSE)
    raise AssertionError("it never came true")
