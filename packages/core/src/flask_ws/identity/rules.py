"""What an app has declared about its users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Rules"]


@dataclass(slots=True)
class Rules:
    """Functions of the app, for all routes of a ``Sock``."""

    #: Says who a client is.
    identify: Callable[[], Any] | None = None
    #: Says whether a client may stay; and how often it is asked, in seconds.
    recheck: Callable[[Any], Any] | None = None
    seconds: float = 60.0
