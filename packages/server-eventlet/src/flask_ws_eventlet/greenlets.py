"""Eventlet's primitives."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import eventlet
import eventlet.hubs
import eventlet.patcher
import eventlet.semaphore

from flask_ws import Concurrency, HomeThread

if TYPE_CHECKING:
    import socket

__all__ = ["greenlets"]

#: Identifies threads, not greenlets, even if the process is monkey-patched.
get_thread: Callable[[], int] = eventlet.patcher.original("threading").get_ident
#: Makes a pair of sockets that never wait for the hub, on Windows over the loopback interface.
make_pair: Callable[[], tuple[socket.socket, socket.socket]] = eventlet.patcher.original(
    "socket"
).socketpair


class HubThread(HomeThread):
    """The thread of the current hub, which only a file descriptor can wake."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = eventlet.hubs.get_hub()
        self._thread = get_thread()
        self._wakee, self._waker = make_pair()
        for end in (self._wakee, self._waker):
            end.setblocking(False)
        eventlet.spawn_n(self._listen)

    def _listen(self) -> None:
        try:
            while True:
                eventlet.hubs.trampoline(self._wakee.fileno(), read=True)
                with contextlib.suppress(BlockingIOError):
                    self._wakee.recv(4096)
                self.work()
        except BaseException:
            # An exception ends this greenlet: another one must take over its work.
            eventlet.spawn_n(self._listen)
            raise

    def is_here(self) -> bool:
        """Tell whether the caller runs in this thread."""
        return get_thread() == self._thread

    def wake(self) -> None:
        """Wake the greenlet that runs the queued functions."""
        # If the buffer is full, the greenlet is being woken already.
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")


_homes: dict[int, HubThread] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_homes.clear)


class Event:
    """A flag to wait for: eventlet's own can be set only once."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: set[Any] = set()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake all waiting greenlets."""
        self._set = True
        waiting, self._waiting = self._waiting, set()
        for semaphore in waiting:
            semaphore.release()

    def clear(self) -> None:
        """Unset it."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or ``timeout`` seconds have passed."""
        if not self._set:
            semaphore = eventlet.semaphore.Semaphore(0)
            self._waiting.add(semaphore)
            try:
                semaphore.acquire(True, timeout)
            finally:
                self._waiting.discard(semaphore)
        return self._set


class Greenlets(Concurrency):
    """Eventlet's primitives, for processes that are monkey-patched and those that are not."""

    name = "eventlet"
    green = True

    def lock(self) -> Any:
        """Make a lock."""
        return eventlet.semaphore.Semaphore()

    def event(self) -> Event:
        """Make an event."""
        return Event()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run ``target`` in a greenlet."""
        eventlet.spawn_n(target)  # its greenlets have no names

    def pause(self) -> None:
        """Let other greenlets run."""
        eventlet.sleep(0)

    def get_ident(self) -> int:
        """Identify the current greenlet."""
        return id(eventlet.getcurrent())

    def home(self) -> HubThread:
        """Return the thread of the current hub."""
        home = _homes.get(get_thread())
        if home is None or home.hub is not eventlet.hubs.get_hub():
            home = _homes[get_thread()] = HubThread()
        return home

    def wait_readable(self, fd: int, timeout: float | None) -> bool:
        """Let other greenlets run until ``fd`` can be read."""
        return _wait(fd, timeout, read=True)

    def wait_writable(self, fd: int, timeout: float | None) -> bool:
        """Let other greenlets run until ``fd`` can be written."""
        # The hub allows one waiting greenlet for each descriptor. Another one may wait for the same
        # socket in its own send, so this one waits with a duplicate.
        return self.wait_on_duplicate(fd, lambda other: _wait(other, timeout, write=True))


def _wait(fd: int, timeout: float | None, **direction: bool) -> bool:
    if timeout is not None:
        # The hub treats a timeout of 0 as none.
        timeout = max(timeout, 0.000001)
    try:
        eventlet.hubs.trampoline(fd, timeout=timeout, timeout_exc=TimeoutError, **direction)
    except TimeoutError:
        return False
    return True


greenlets = Greenlets()

if not eventlet.patcher.is_monkey_patched("time"):
    # Logged once: this module is imported at the first connection.
    logging.getLogger("flask_ws").warning(
        "Eventlet's server runs without monkey-patching: a handler that waits in time.sleep(), a "
        "database or another lock stops all other requests. Call eventlet.monkey_patch() before "
        "all other imports."
    )
