"""The few primitives that differ between threads and greenlets."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, TypeVar

from . import native
from .native import is_monkey_patched
from .process import PerProcess
from .system import socketpair

try:
    # Written in C: monkey-patching does not make it green.
    from _queue import Empty, SimpleQueue
except ImportError:
    from queue import Empty, SimpleQueue

__all__ = ["Concurrency", "Event", "HomeThread", "Lock", "native_threads", "threads"]

logger = logging.getLogger("flask_ws")

T = TypeVar("T")

#: Seconds that a thread waits for another one that does not run its greenlets.
STALLED = 10.0
#: Seconds after which a greenlet checks its socket again, where no descriptor is left to wait with.
SHORTAGE_LOOK = 0.02
#: Errors: no descriptor is left for the process, or in the system.
SHORTAGES = (errno.EMFILE, errno.ENFILE)


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
    """The one thread in which some primitives work, and a way to call functions there.

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
        """Have :meth:`work` called soon, in a greenlet of this thread; any thread may call this."""
        raise NotImplementedError

    def run(self, function: Callable[[], object]) -> None:
        """Call a function in this thread: now, where that is possible, or soon.

        :param function: called without arguments. Functions are called one by one, in the order
            in which they came.
        """
        if self.catch_up() and not self._waiting:
            function()
        else:
            self.post(function)

    def post(self, function: Callable[[], object]) -> None:
        """Call a function in this thread soon, as :meth:`run` does for other threads."""
        self._waiting.append(function)
        self.wake()

    def catch_up(self) -> bool:
        """Call the functions that wait to be called here, so that later ones come after them.

        :return: ``False`` in any other thread, where nothing is called.
        """
        if not self.is_here():
            return False
        if self._waiting:
            self.work()
        return True

    def call(self, function: Callable[[], T], concurrency: Concurrency) -> T:
        """Call a function in a greenlet of this thread, and wait for it in another thread.

        :param function: called without arguments; it may wait.
        :param concurrency: the greenlets' primitives.
        :return: what it returns.
        :raises RuntimeError: this thread does not run its greenlets. The function may have been
            called, or not.
        """
        answers: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        signs_of_life: list[bool] = []

        def run() -> None:
            try:
                answers.put((function(), None))
            except BaseException as error:
                answers.put((None, error))

        def begin() -> None:
            signs_of_life.append(True)
            concurrency.spawn(run, "flask_ws.call")

        self.run(begin)
        while True:
            try:
                result, error = answers.get(timeout=STALLED)
            except Empty:
                if not signs_of_life:
                    raise RuntimeError(
                        f"The server's thread has not run any greenlet for {STALLED:g} s: it has "
                        "ended, or something blocks it."
                    ) from None
                signs_of_life.clear()
                self.run(functools.partial(signs_of_life.append, True))
            else:
                if error is not None:
                    raise error
                return result  # type: ignore[return-value]

    def work(self) -> None:
        """Call the functions that wait to be called."""
        if self._working:
            # Another greenlet is calling them.
            return
        self._working = True
        try:
            while self._waiting:
                try:
                    self._waiting[0]()
                except Exception:
                    logger.exception("A call for another thread failed.")
                finally:
                    # Removed only now: until it has ended, run() must not call a later one.
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

    @property
    def green(self) -> bool:
        """Whether a handler runs on a greenlet rather than a thread of the operating system."""
        return is_monkey_patched()

    def lock(self) -> Lock:
        """Make a lock."""
        return threading.Lock()

    def event(self) -> Event:
        """Make an event."""
        return threading.Event()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run ``target`` in the background; it does not keep the process alive.

        :param target: called without arguments; must not raise.
        :param name: a name for the thread.
        """
        threading.Thread(target=target, name=name, daemon=True).start()

    def get_ident(self) -> int:
        """Return a number that identifies the thread or greenlet that calls this."""
        return threading.get_ident()

    def pause(self) -> None:
        """Yield to others that are ready to run: greenlets are not preempted."""
        time.sleep(0)

    def home(self) -> HomeThread | None:
        """Return the thread of the caller, if only there these primitives work.

        :return: the same object for each call from that thread; ``None`` where locks and the like
            can be used from any thread, as those of a process that is not monkey-patched.
        """
        if not is_monkey_patched():
            return None
        return _homes.get(threading.get_native_id(), PatchedThread)

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
        if not is_monkey_patched():
            return _poll(fd, timeout, write=True)
        return self.wait_on_duplicate(fd, lambda other: _poll(other, timeout, write=True))

    def wait_on_duplicate(self, fd: int, wait: Callable[[int], bool]) -> bool:
        """Wait for a socket by a duplicate of its file descriptor; for primitives of greenlets.

        Another greenlet may close the descriptor meanwhile, and an event loop that still has its
        number may abort the process; or another greenlet may be waiting for it, and the event loop
        allows one for each.

        :param fd: the file descriptor.
        :param wait: waits for the duplicate.
        :return: what that returns; ``True`` after a moment where there is no descriptor for a
            duplicate, so that the caller tries again.
        """
        try:
            other = os.dup(fd)
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            self.event().wait(SHORTAGE_LOOK)
            return True
        try:
            return wait(other)
        finally:
            os.close(other)


class PatchedThread(HomeThread):
    """A thread of a process whose standard library was made green by monkey-patching.

    A byte on a socket wakes a greenlet there, whatever its event loop. The thread is known by its
    native id, which monkey-patching does not change.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_native_id()
        self._wakee, self._waker = socketpair()
        for end in (self._wakee, self._waker):
            end.setblocking(False)
        self._start()

    def _start(self) -> None:
        threads.spawn(self._listen, "flask_ws.PatchedThread")

    def _listen(self) -> None:
        try:
            while True:
                threads.wait_readable(self._wakee.fileno(), None)
                with contextlib.suppress(BlockingIOError):
                    self._wakee.recv(4096)
                self.work()
        except BaseException:
            # This greenlet ends; another one must call what other threads ask for.
            self._start()
            raise

    def is_here(self) -> bool:
        return threading.get_native_id() == self._thread

    def wake(self) -> None:
        # A full buffer wakes the greenlet as well.
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")


_homes: PerProcess[int, PatchedThread] = PerProcess()


def _poll(fd: int, timeout: float | None, *, write: bool) -> bool:
    # Looked up at each call: gevent replaces select.poll, eventlet and Windows have none.
    poll = getattr(select, "poll", None)
    if poll is None:
        read_fds, write_fds = ([], [fd]) if write else ([fd], [])
        return any(select.select(read_fds, write_fds, [], timeout))
    poller = poll()
    poller.register(fd, select.POLLOUT if write else select.POLLIN)
    return bool(poller.poll(None if timeout is None else max(0.0, timeout) * 1000))


class NativeThreads(Concurrency):
    """Threads of the operating system, whatever the standard library's are.

    What runs on them waits for nothing but these locks and events, and calls no foreign code where
    the process is monkey-patched: its locks need not work for another thread.
    """

    name = "native threads"

    @property
    def green(self) -> bool:
        return False

    def lock(self) -> Lock:
        lock: Lock = native.allocate_lock()
        return lock

    def event(self) -> Event:
        return native.Event()

    def spawn(self, target: Callable[[], object], name: str) -> None:
        if is_monkey_patched():
            native.start_thread(target, ())
        else:
            # It has a name.
            super().spawn(target, name)

    def get_ident(self) -> int:
        ident: int = native.get_ident()
        return ident

    def home(self) -> HomeThread | None:
        return None


#: The standard library's primitives.
threads = Concurrency()
#: The operating system's.
native_threads = NativeThreads()
