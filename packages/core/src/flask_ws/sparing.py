"""Warnings about what may happen again and again: each at most once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable

__all__ = ["warn_sparingly"]

logger = logging.getLogger("flask_ws")

#: Seconds.
PERIOD = 60.0

#: When the next warning of a kind may be logged.
_due: dict[Hashable, float] = {}


def warn_sparingly(key: Hashable, message: str, *args: object) -> None:
    """Log a warning, unless one with this key was logged within a minute.

    :param key: a kind of warning and a route: there must be few.
    """
    now = time.monotonic()
    if now >= _due.get(key, 0.0):
        _due[key] = now + PERIOD
        logger.warning(message, *args)
