"""How many processes the server has: its functions know, which run the loop of each of them."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

__all__ = ["count_workers", "has_siblings"]


def ask_uvicorn(config: Any) -> int:
    """Return the number of Uvicorn's workers; one that reloads begins them one after another."""
    return 1 if config.should_reload else config.workers


def ask_granian(number: int) -> int:
    """Return the number of Granian's workers, where it does not fork.

    :param number: which of them this is: all that its function is told. Its command knows more.
    """
    command: Any = getattr(sys.modules.get("granian.cli"), "cli", None)
    if command is None:
        return number
    options: dict[str, Any] = command.make_context(
        "granian", sys.argv[1:], resilient_parsing=True, auto_envvar_prefix="GRANIAN"
    ).params
    return max(number, options["workers"] or 1)


#: What the local variables of a server's function say, by its module. It may be one that has begun
#: this process by a fork.
WORKERS: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "uvicorn._subprocess": lambda local: ask_uvicorn(local["config"]),
    "hypercorn.asyncio.run": lambda local: local["config"].workers,
    "gunicorn.workers.base": lambda local: local["self"].cfg.workers,
    "granian.server.common": lambda local: local["self"].workers,
    "granian.server.mp": lambda local: ask_granian(local["worker_id"]),
}


@functools.cache
def has_siblings() -> bool:
    """Tell whether the server has several processes; first called on its loop."""
    return count_workers() > 1


def count_workers() -> int:
    """Count the server's processes, as far as this one can know; called on its loop."""
    most = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        ask = WORKERS.get(frame.f_globals.get("__name__", ""))
        if ask is not None:
            # Of its other functions; and a later version may have others.
            with contextlib.suppress(Exception):
                most = max(most, ask(frame.f_locals))
        frame = frame.f_back
    return most
