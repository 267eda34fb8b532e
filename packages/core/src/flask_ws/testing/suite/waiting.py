"""Waiting for conditions that send no event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["LOG_SECONDS", "PATIENCE", "Timeout", "wait_until"]

#: Seconds that a client waits for bytes, unless a test sets another timeout.
PATIENCE = float(os.environ.get("FLASK_WS_SUITE_PATIENCE", "10"))
#: Seconds to wait for a line of the log, which is there at once unless the machine is busy.
LOG_SECONDS = 1.5 * PATIENCE

T = TypeVar("T")


class Timeout(AssertionError):
    """What a test waited for did not come in time."""


def wait_until(
    probe: Callable[[], T | None], *, timeout: float = 5.0, what: str = "", every: float = 0.01
) -> T:
    """Poll a function that has no event to wait for; returns the first true result."""
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout} s: {what or probe}")
        time.sleep(every)
