"""Waiting for many sockets at once, on behalf of threads that share the work."""

from __future__ import annotations

import contextlib
import select
import selectors
import threading
from typing import Protocol

__all__ = ["Poller", "make_poller"]

#: The most sockets that are reported at once.
MOST = 64
#: Seconds for which a selector is blind to what others register, where it cannot see that.
BLIND = 0.05


class Poller(Protocol):
    """Sockets to wait for; any thread may call any of this at any time."""

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


class SelectorPoller:
    """The best that other systems have; one thread waits at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def register(self, fd: int) -> None:
        with self._lock:
            self._selector.register(fd, selectors.EVENT_READ)

    def unregister(self, fd: int) -> None:
        with self._lock, contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    mask = unregister

    def unmask(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self.register(fd)

    def wait(self, timeout: float) -> list[int]:
        with self._turn:
            # kqueue and select do not see what is registered while they wait.
            return [key.fd for key, _ in self._selector.select(min(timeout, BLIND))]


def make_poller() -> Poller:
    """Make the best poller of this system."""
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()
