"""gevent's primitives."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.lock
import gevent.monkey
import gevent.socket

from flask_ws import Concurrency

__all__ = ["greenlets"]


class Greenlets(Concurrency):
    """gevent's primitives, for processes that are monkey-patched and those that are not."""

    name = "gevent"
    green = True

    def lock(self) -> Any:
        """Make a lock."""
        return gevent.lock.BoundedSemaphore()

    def event(self) -> Any:
        """Make an event."""
        return gevent.event.Event()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run ``target`` in a greenlet."""
        gevent.spawn(target).name = name

    def get_ident(self) -> int:
        """Identify the current greenlet."""
        return id(gevent.getcurrent())

    def wait_readable(self, fd: int, timeout: float | None) -> bool:
        """Let other greenlets run until ``fd`` can be read."""
        return _wait(gevent.socket.wait_read, fd, timeout)

    def wait_writable(self, fd: int, timeout: float | None) -> bool:
        """Let other greenlets run until ``fd`` can be written."""
        # Who ends the connection closes its descriptor, and an event loop that is left with the
        # number aborts the process.
        other = os.dup(fd)
        try:
            return _wait(gevent.socket.wait_write, other, timeout)
        finally:
            os.close(other)


def _wait(wait: Callable[..., object], fd: int, timeout: float | None) -> bool:
    try:
        wait(fd, timeout)
    except TimeoutError:
        return False
    return True


greenlets = Greenlets()

if not gevent.monkey.is_module_patched("time"):
    # Once, at the first connection: this module is not imported before.
    logging.getLogger("flask_ws").warning(
        "gevent's server runs without monkey-patching: a handler that waits in time.sleep(), a "
        "database or another lock stops all other requests. Call gevent.monkey.patch_all() "
        "before all other imports."
    )
