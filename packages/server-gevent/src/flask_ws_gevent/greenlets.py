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

from flask_ws import Concurrency, HomeThread

__all__ = ["greenlets"]

#: Identifies threads, not greenlets, even if the process is monkey-patched.
get_thread = gevent.monkey.get_original("_thread", "get_ident")


class HubThread(HomeThread):
    """The thread of the current hub."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = gevent.get_hub()
        self._thread = get_thread()

    def is_here(self) -> bool:
        """Tell whether the caller runs in this thread."""
        return bool(get_thread() == self._thread)

    def wake(self) -> None:
        """Run the queued functions in a greenlet."""
        loop = self.hub.loop
        # It is None once the hub was destroyed.
        if loop is not None:
            loop.run_callback_threadsafe(gevent.spawn, self.work)


_homes: dict[int, HubThread] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_homes.clear)


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

    def pause(self) -> None:
        """Let other greenlets run."""
        gevent.sleep(0)

    def get_ident(self) -> int:
        """Identify the current greenlet."""
        return id(gevent.getcurrent())

    def home(self) -> HubThread:
        """Return the thread of the current hub."""
        home = _homes.get(get_thread())
        if home is None or home.hub is not gevent.get_hub():
            home = _homes[get_thread()] = HubThread()
        return home

    def wait_readable(self, fd: int, timeout: float | None) -> bool:
        """Let other greenlets run until ``fd`` can be read."""
        return _wait(gevent.socket.wait_read, fd, timeout)

    def wait_writable(self, fd: int, timeout: float | None) -> bool:
        """Let other greenlets run until ``fd`` can be written."""
        wait = gevent.socket.wait_write
        return self.wait_on_duplicate(fd, lambda other: _wait(wait, other, timeout))


def _wait(wait: Callable[..., object], fd: int, timeout: float | None) -> bool:
    try:
        wait(fd, timeout)
    except TimeoutError:
        return False
    return True


greenlets = Greenlets()

if not gevent.monkey.is_module_patched("time"):
    # Logged once: this module is imported at the first connection.
    logging.getLogger("flask_ws").warning(
        "gevent's server runs without monkey-patching: a handler that waits in time.sleep(), a "
        "database or another lock stops all other requests. Call gevent.monkey.patch_all() "
        "before all other imports."
    )
