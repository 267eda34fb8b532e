"""Waiting for many sockets at once, on behalf of threads that share the work."""

from __future__ import annotations

import contextlib
import select
import selectors
import threading
from typing import Any, Protocol

from ..system import WINDOWS, socketpair

__all__ = ["Poller", "make_poller"]

#: The module has, and is typed to have, what the system has.
kernel: Any = select
#: The most sockets that are reported at once.
MOST = 64


class Poller(Protocol):
    """Sockets to wait for; any thread may call any of this at any time."""

    #: Whether a socket is reported that was shut down on this side.
    sees_aborts: bool

    def register(self, fd: int) -> None:
        """Wait for ``fd`` from now on."""

    def unregister(self, fd: int) -> None:
        """Wait for it no more; it has been registered, and may be masked."""

    def mask(self, fd: int) -> None:
        """Leave a registered socket out for now, because somebody reads it."""

    def unmask(self, fd: int) -> None:
        """Take it in again: if it is readable, it will be reported."""

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
        # Just closed, perhaps: then there is nothing to leave out.
        with contextlib.suppress(OSError):
            # Oneshot, because a hangup is reported whatever is asked for.
            self._epoll.modify(fd, select.EPOLLONESHOT)

    def unmask(self, fd: int) -> None:
        # Not registered yet, perhaps: then it will be, for just that.
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
        # Just closed, perhaps: with that it is forgotten. So in what follows.
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
    """Sockets to wait for, for one thread."""

    def add(self, fd: int) -> None:
        """Wait for ``fd`` from the next :meth:`wait` on."""

    def discard(self, fd: int) -> None:
        """Wait for it no more, if it was added."""

    def wait(self, timeout: float) -> list[int]:
        """Return those that are readable; none after ``timeout`` seconds."""


class SelectedSockets:
    """Sockets, waited for by the standard library's selector, which monkey-patching makes green."""

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
    """Waits where the system does not see what is added meanwhile: one thread at a time, and woken.

    :param sockets: what waits.
    :param sees_aborts: as for all pollers.
    """

    def __init__(self, sockets: Sockets, *, sees_aborts: bool) -> None:
        self.sees_aborts = sees_aborts
        self._sockets = sockets
        self._lock = threading.Lock()
        self._registered: set[int] = set()
        # Held by the thread that waits; and whether there is one.
        self._turn = threading.Lock()
        self._waiting = False
        # What is sent here wakes it.
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
            # Full, it wakes as well.
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
            # Before it looks what there is to wait for.
            self._waiting = True
            readable = self._sockets.wait(timeout)
            self._waiting = False
            if self._wakee.fileno() in readable:
                with contextlib.suppress(BlockingIOError):
                    self._wakee.recv(4096)
            # What was masked meanwhile, somebody reads.
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
        # ctypes is nothing that others need.
        from .winsock import WindowsSockets

        return WakingPoller(WindowsSockets(), sees_aborts=False)
    return WakingPoller(SelectedSockets(), sees_aborts=True)
