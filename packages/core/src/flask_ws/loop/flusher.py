"""Sending what the kernel did not take at once, when it can take more."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable

from ..concurrency import Concurrency
from ..connection.sender import Sender

__all__ = ["Flusher", "flusher_for"]

#: Seconds between two looks for connections that were closed meanwhile.
LOOK = 0.5

NAME = "flask_ws.Flusher"


class Flusher:
    """Flushes the outboxes of the connections whose peers read slowly.

    It has a thread while there are any; greenlets, being cheap, have one for each of them.

    :param concurrency: the primitives of the connections.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self._lock = concurrency.lock()
        self._arrived: deque[Sender] = deque()
        self._watched: set[Sender] = set()
        # While the thread runs: what is written here wakes it.
        self._waker: socket.socket | None = None

    def watch(self, connection: Sender) -> None:
        """Flush a connection's outbox as its socket becomes writable."""
        with self._lock:
            if connection in self._watched:
                return
            self._watched.add(connection)
            try:
                if self._concurrency.green:
                    self._concurrency.spawn(self._follow(connection), NAME)
                else:
                    self._arrived.append(connection)
                    self._wake()
            except (OSError, RuntimeError):
                # No more descriptors, or threads. The monitor's next look at it tries again.
                self._watched.discard(connection)

    def _wake(self) -> None:
        """Start the thread, or interrupt its waiting."""
        if self._waker is not None:
            # Full, it wakes the thread as well.
            with contextlib.suppress(BlockingIOError):
                self._waker.send(b"\0")
            return
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            waker, wakee = socket.socketpair()
            for end in (waker, wakee):
                stack.enter_context(end)
                end.setblocking(False)
            selector.register(wakee, selectors.EVENT_READ)
            self._concurrency.spawn(functools.partial(self._run, selector, wakee), NAME)
            stack.pop_all()
        self._waker = waker

    def _follow(self, connection: Sender) -> Callable[[], None]:
        def run() -> None:
            while not connection.flush(later=False):
                if connection.released or not connection.wait_writable(1.0):
                    break
            with self._lock:
                self._watched.discard(connection)
            if not connection.released:
                connection.flush()

        return run

    def _run(self, selector: selectors.BaseSelector, wakee: socket.socket) -> None:
        with selector, wakee:
            ready = None
            # Not at once when all is sent: the next may follow.
            while ready != [] or not self._is_idle():
                while self._arrived:
                    self._register(selector, self._arrived.popleft())
                ready = selector.select(LOOK)
                for key, _ in ready:
                    if key.fileobj is wakee:
                        wakee.recv(4096)
                    elif self._flush(key.data):
                        self._unregister(selector, key.fd)
                for key in list(selector.get_map().values()):
                    if key.data is not None and key.data.released:
                        self._unregister(selector, key.fd)
                        self._flush(key.data)

    def _is_idle(self) -> bool:
        """Whether there is nothing to do; the thread ends then."""
        with self._lock:
            if self._watched:
                return False
            if self._waker is not None:
                self._waker.close()
                self._waker = None
            return True

    def _register(self, selector: selectors.BaseSelector, connection: Sender) -> None:
        if self._flush(connection):
            return
        try:
            # Whoever ends the connection closes its descriptor, and a selector that is left with
            # the number waits for another's; gevent's aborts the process.
            fd = os.dup(connection.fd)
        except OSError:
            # Closed between the two; or no more descriptors, which the monitor's next look at the
            # connection finds out.
            with self._lock:
                self._watched.discard(connection)
            return
        selector.register(fd, selectors.EVENT_WRITE, connection)

    def _unregister(self, selector: selectors.BaseSelector, fd: int) -> None:
        selector.unregister(fd)
        os.close(fd)

    def _flush(self, connection: Sender) -> bool:
        """Flush; whether the connection needs no watching any more."""
        if not connection.flush(later=False):
            return False
        with self._lock:
            self._watched.discard(connection)
        # What came between the two would have been left to this watch.
        return connection.flush()


_flushers: dict[str, Flusher] = {}


def flusher_for(concurrency: Concurrency) -> Flusher:
    """Return this process's flusher for connections that use these primitives."""
    flusher = _flushers.get(concurrency.name)
    if flusher is None:
        flusher = _flushers.setdefault(concurrency.name, Flusher(concurrency))
    return flusher


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_flushers.clear)
