"""Waiting for many sockets at once, for threads that share the work."""

from __future__ import annotations

import contextlib
import select
import selectors
import threading
from typing import Any, Protocol

from ..system import WINDOWS, socketpair

__all__ = ["Poller", "make_poller"]

#: The module without its types: what it has differs from system to system.
kernel: Any = select
#: The most sockets that are reported at once.
MOST = 64


class Poller(Protocol):
    """Sockets to wait for; any thread may call any method at any time."""

    #: Whether a socket that was shut down on this side is reported.
    sees_aborts: bool

    def register(self, fd: int) -> None:
        """Wait for ``fd`` from now on."""

    def unregister(self, fd: int) -> None:
        """Stop waiting for ``fd``, which is registered and may be masked."""

    def mask(self, fd: int) -> None:
        """Do not report a registered socket for now, because another thread reads it."""

    def unmask(self, fd: int) -> None:
        """Report a masked socket again, also if it is readable already."""

    def wait(self, timeout: float) -> list[int]:
        """Return some sockets that are readable; none after ``timeout`` seconds, or earlier."""


class EpollPoller:
    """epoll (Linux), level-triggered."""

    sees_aborts = True

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def register(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def unregister(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def mask(self, fd: int) -> None:
        # It may just have been closed: then there is nothing to mask.
        with contextlib.suppress(OSError):
            # A hangup is reported whatever is asked for: with EPOLLONESHOT, once only.
            self._epoll.modify(fd, select.EPOLLONESHOT)

    def unmask(self, fd: int) -> None:
        # It may not be registered yet: then register() will ask for the same.
        with contextlib.suppress(OSError):
            self._epoll.modify(fd, select.EPOLLIN)

    def wait(self, timeout: float) -> list[int]:
        return [fd for fd, _ in self._epoll.poll(timeout, MOST)]


class KqueuePoller:
    """kqueue (macOS and the BSDs), level-triggered."""

    sees_aborts = True

    def __init__(self) -> None:
        self._kqueue = kernel.kqueue()

    def register(self, fd: int) -> None:
        self._change(fd, kernel.KQ_EV_ADD)

    def unregister(self, fd: int) -> None:
        # It may just have been closed, which unregisters it. The same holds below.
        with contextlib.suppress(OSError):
            self._change(fd, kernel.KQ_EV_DELETE)

    def mask(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self._change(fd, kernel.KQ_EV_DISABLE)

    def unmask(self, fd: int) -> None:
        with contextlib.suppress(OSError):
            self._change(fd, kernel.KQ_EV_ENABLE)

    def wait(self, timeout: float) -> list[int]:
        return [event.ident for event in self._kqueue.control(None, MOST, timeout)]

    def _change(self, fd: int, action: int) -> None:
        self._kqueue.control([kernel.kevent(fd, kernel.KQ_FILTER_READ, action)], 0)


class Sockets(Protocol):
    """Sockets that one thread waits for."""

    def add(self, fd: int) -> None:
        """Wait for ``fd`` from the next :meth:`wait` on."""

    def discard(self, fd: int) -> None:
        """Stop waiting for ``fd``, if it was added."""

    def wait(self, timeout: float) -> list[int]:
        """Return those that are readable; none after ``timeout`` seconds."""


class SelectedSockets:
    """Waits by the standard library's selector, which monkey-patching makes green."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, fd: int) -> None:
        self._selector.register(fd, selectors.EVENT_READ)

    def discard(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def wait(self, timeout: float) -> list[int]:
        return [key.fd for key, _ in self._selector.select(timeout)]


class WakingPoller:
    """For systems that do not notice sockets added during a wait: one thread waits, and is woken.

    :param sockets: what waits.
    :param sees_aborts: as for all pollers.
    """

    def __init__(self, sockets: Sockets, *, sees_aborts: bool) -> None:
        self.sees_aborts = sees_aborts
        self._sockets = sockets
        self._lock = threading.Lock()
        self._registered: set[int] = set()
        # The lock is held by the thread that waits; the flag tells whether there is one.
        self._turn = threading.Lock()
        self._waiting = False
        # A byte sent here wakes it.
        self._waker, self._wakee = socketpair()
        for end in (self._waker, self._wakee):
            end.setblocking(False)
        sockets.add(self._wakee.fileno())

    def __del__(self) -> None:
        self._waker.close()
        self._wakee.close()

    def register(self, fd: int) -> None:
        with self._lock:
            self._registered.add(fd)
            self._sockets.add(fd)
        if self._waiting:
            # A full buffer wakes it as well.
            with contextlib.suppress(BlockingIOError):
                self._waker.send(b"\0")

    def unregister(self, fd: int) -> None:
        with self._lock:
            self._registered.discard(fd)
            self._sockets.discard(fd)

    mask = unregister

    def unmask(self, fd: int) -> None:
        if fd not in self._registered:
            self.register(fd)

    def wait(self, timeout: float) -> list[int]:
        if not self._turn.acquire(timeout=timeout):
            return []
        try:
            # Set first: a socket that is added after the wait has begun must wake it.
            self._waiting = True
            readable = self._sockets.wait(timeout)
            self._waiting = False
            if self._wakee.fileno() in readable:
                with contextlib.suppress(BlockingIOError):
                    self._wakee.recv(4096)
            # Another thread reads those that were masked meanwhile.
            return [fd for fd in readable if fd in self._registered]
        finally:
            self._turn.release()


def make_poller() -> Poller:
    """Make the best poller of this system."""
    if hasattr(select, "epoll"):
        return EpollPoller()
    if hasattr(select, "kqueue"):
        return KqueuePoller()
    if WINDOWS:
        # Only Windows needs ctypes.
        from .winsock import WindowsSockets

        return WakingPoller(WindowsSockets(), sees_aborts=False)
    return WakingPoller(SelectedSockets(), sees_aborts=True)
