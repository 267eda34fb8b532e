"""Logging from a thread of the operating system where all others are greenlets.

There the locks of ``logging`` and of its handlers are greenlets' locks, of which some work in one
thread only; and that thread may be the one which is held up.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator

__all__ = ["warn"]


def warn(
    logger: logging.Logger,
    post: Callable[[Callable[[], object]], object],
    message: str,
    args: tuple[object, ...],
) -> None:
    """Log a warning.

    What writes to a file or a terminal does so at once, and past its lock; other handlers get the
    warning when greenlets run again.

    :param post: has a function called in the greenlets' thread.
    """
    if not logger.isEnabledFor(logging.WARNING):
        return
    record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, message, args, None)
    if not logger.filter(record):
        return
    for handler in _handlers_of(logger):
        if handler.level > logging.WARNING:
            continue
        descriptor = _descriptor_of(handler)
        if descriptor is None:
            post(functools.partial(handler.handle, record))
        elif handler.filter(record):
            try:
                _write(descriptor, handler, record)
            except Exception:
                handler.handleError(record)


def _write(descriptor: int, handler: logging.Handler, record: logging.LogRecord) -> None:
    assert isinstance(handler, logging.StreamHandler)
    encoding = getattr(handler.stream, "encoding", None) or "utf-8"
    line = handler.format(record) + handler.terminator
    os.write(descriptor, line.encode(encoding, "backslashreplace"))


def _handlers_of(logger: logging.Logger | None) -> Iterator[logging.Handler]:
    found = False
    while logger is not None:
        found = found or bool(logger.handlers)
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
    if not found and logging.lastResort is not None:
        yield logging.lastResort


def _descriptor_of(handler: logging.Handler) -> int | None:
    """Return what a handler writes to; ``None`` if it does something else, or more than that."""
    emits = type(handler).emit.__module__.partition(".")[0] == "logging"
    if not (emits and isinstance(handler, logging.StreamHandler)):
        return None
    try:
        descriptor: int = handler.stream.fileno()
    except (AttributeError, OSError, ValueError):
        # In memory, or not open.
        return None
    return descriptor
