"""The few primitives that differ between threads and greenlets."""

from __future__ import annotations

import logging
import select
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

__all__ = ["Concurrency", "Event", "HomeThread", "Lock", "threads"]

logger = logging.getLogger("flask_ws")


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


class HomeThread:
    """The one thread in which some primitives work, and a way to get things done there.

    A plugin whose greenlets belong to a hub that other threads must not touch derives from this
    class.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._working = False

    def is_here(self) -> bool:
        """Tell whether the caller runs in this thread, in whichever greenlet."""
        raise NotImplementedError

    def wake(self) -> None:
        """Have :meth:`work` called, soon, in a greenlet of this thread; called from any thread."""
        raise NotImplementedError

    def run(self, function: Callable[[], object]) -> None:
        """Call a function in this thread: now, where that is possible, or soon.

        :param function: called without arguments. Functions are called one by one, in the order
            in which they came.
        """
        if not self._waiting and self.is_here():
            function()
        else:
            self._waiting.append(function)
            self.wake()

    def work(self) -> None:
        """Call the functions that wait to be called."""
        if self._working:
            # Another greenlet is at it.
            return
        self._working = True
        try:
            while self._waiting:
                try:
                    self._waiting[0]()
                except Exception:
                    logger.exception("An error in what another thread asked for")
                # It waited until now: so nothing overtakes it.
                self._waiting.popleft()
        finally:
            self._working = False


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

    def home(self) -> HomeThread | None:
        """Return the thread of the caller, if only there these primitives work.

        :return: the same object for each call from that thread; ``None``, the default, where
            locks and the like can be used from any thread.
        """
        return None

    def wait_readable(self, fd: int, timeout: float | None) -> bool:
        """Wait until a socket can be read.

        :param fd: its file descriptor.
        :param timeout: seconds to wait; ``None`` waits for as long as it takes.
        :return: ``False`` when the time was up first.
        """
        return _poll(fd, timeout, write=False)

    def wait_writable(self, fd: int, timeout: float | None) -> bool:
        """Wait until a socket can be written.

        :param fd: its file descriptor.
        :param timeout: seconds to wait; ``None`` waits for as long as it takes.
        :return: ``False`` when the time was up first.
        """
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
