"""The few primitives that differ between threads and greenlets."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

__all__ = ["Concurrency", "Event", "Lock", "threads"]


class Lock(Protocol):
    """A mutual exclusion lock, as :class:`threading.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...

    def __enter__(self) -> object: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> object: ...


class Event(Protocol):
    """A flag to wait for, as :class:`threading.Event`."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Concurrency:
    """Locks, threads and waiting for a socket, as the socket's own server does them.

    This class gives those of the standard library, looked up at each call, so that they are green
    where a process is monkey-patched. A plugin whose server runs greenlets in a process that is
    not, brings a subclass with its own.
    """

    #: Short name, shown in logs and used to name threads.
    name = "threads"
    #: Whether a handler here costs a greenlet rather than a thread of the operating system's.
    green = False

    def lock(self) -> Lock:
        """Make a lock."""
        return threading.Lock()

    def event(self) -> Event:
        """Make an event."""
        return threading.Event()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run ``target`` beside the caller; it does not keep the process alive.

        :param target: called without arguments; must not raise.
        :param name: a name for the thread.
        """
        threading.Thread(target=target, name=name, daemon=True).start()

    def get_ident(self) -> int:
        """Tell the thread or greenlet that calls from others."""
        return threading.get_ident()

    def wait_readable(self, fd: int, timeout: float | None) -> bool:
        """Wait until ``fd`` can be read; ``False`` when ``timeout`` seconds passed first."""
        return _poll(fd, timeout, write=False)

    def wait_writable(self, fd: int, timeout: float | None) -> bool:
        """Wait until ``fd`` can be written; ``False`` when ``timeout`` seconds passed first."""
        return _poll(fd, timeout, write=True)


def _poll(fd: int, timeout: float | None, *, write: bool) -> bool:
    # Looked up here and now: gevent replaces select.poll, eventlet and Windows have none.
    poll = getattr(select, "poll", None)
    if poll is None:
        read_fds, write_fds = ([], [fd]) if write else ([fd], [])
        return any(select.select(read_fds, write_fds, [], timeout))
    poller = poll()
    poller.register(fd, select.POLLOUT if write else select.POLLIN)
    return bool(poller.poll(None if timeout is None else max(0.0, timeout) * 1000))


#: The standard library's primitives.
threads = Concurrency()
