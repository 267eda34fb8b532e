"""Sending what the kernel did not accept at once, when the socket is writable again."""

from __future__ import annotations

import contextlib
import functools
import logging
import select
import socket
import time
from collections import deque

from ..concurrency import Concurrency, HomeThread
from ..connection.writer import Writer
from ..process import PerProcess
from ..worker import Worker
from .monitor import monitor_for

__all__ = ["Flusher", "flusher_for"]

logger = logging.getLogger("flask_ws")

#: Seconds between two checks for connections that were closed meanwhile.
LOOK = 0.5
#: The same for a process without a free descriptor: no thread can be woken, and some greenlets
#: cannot wait for their socket.
SHORTAGE_LOOK = 0.02

#: Sockets that are given to select at once; Windows takes 512.
MOST_SELECTED = 500

NAME = "flask_ws.Flusher"


class Flusher:
    """Flushes the outboxes of the connections whose peers read slowly.

    One thread flushes all of them, while there are any; where there are greenlets, each connection
    has its own. A new connection wakes the thread; where no file descriptor is free, it polls.

    :param concurrency: the primitives of the connections.
    :param home: the thread in which they work, if they do in one only.
    """

    def __init__(self, concurrency: Concurrency, home: HomeThread | None = None) -> None:
        self._concurrency = concurrency
        self._home = home
        # The worker that flushes each connection.
        self._watched: dict[Writer, Worker] = {}
        self._worker = Worker(NAME, self._run, lambda: bool(self._watched), concurrency=concurrency)
        self._arrived: deque[Writer] = deque()
        # While the thread runs: a byte sent here wakes it. The lock keeps it open meanwhile.
        self._lock = concurrency.lock()
        self._waker: socket.socket | None = None
        # Whether a worker is to be started when the system has threads again.
        self._waits_for_threads = False

    def watch(self, connection: Writer) -> None:
        """Flush a connection's outbox as its socket becomes writable."""
        worker = self._watched.get(connection)
        if worker is None:
            worker = self._make_worker(connection) if self._concurrency.green else self._worker
            self._watched[connection] = worker
            if worker is self._worker:
                self._arrived.append(connection)
                self._wake()
        self._start(worker)

    def _start(self, worker: Worker) -> None:
        try:
            worker.start()
        except RuntimeError:
            # The system has no more threads.
            if not self._waits_for_threads:
                self._waits_for_threads = True
                monitor_for(self._concurrency).at(time.monotonic() + LOOK, self._start_again)

    def _start_again(self) -> None:
        self._waits_for_threads = False
        for worker in set(self._watched.values()):
            self._start(worker)

    def _flush(self, connection: Writer) -> bool:
        """Flush without waiting; whether nothing is left."""
        try:
            return connection.flush(later=False)
        except Exception:
            logger.exception("%s: given up after an error in flask-ws.", connection.label)
            connection.lose("an error of the server's")
            return True

    def _let_go(self, connection: Writer) -> None:
        """Stop watching a connection."""
        self._watched.pop(connection, None)
        # What was queued since its last flush was left for the flusher to send.
        if not connection.released:
            connection.flush()

    # Greenlets

    def _make_worker(self, connection: Writer) -> Worker:
        return Worker(
            NAME,
            functools.partial(self._follow, connection),
            lambda: connection in self._watched,
            concurrency=self._concurrency,
            home=self._home,
        )

    def _follow(self, connection: Writer) -> None:
        while not self._flush(connection) and not connection.released:
            try:
                connection.wait_writable(2 * LOOK)
            except OSError:
                # No file descriptor is left, or the connection is being closed.
                self._concurrency.event().wait(SHORTAGE_LOOK)
        self._let_go(connection)

    # The thread

    def _wake(self) -> None:
        """Interrupt the thread's wait."""
        with self._lock:
            if self._waker is not None:
                # A full buffer wakes the thread as well.
                with contextlib.suppress(BlockingIOError):
                    self._waker.send(b"\0")

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            wakee = self._open_waker(stack)
            sockets = _Sockets(wakee)
            # Also those that were watched before an error.
            self._arrived.clear()
            arrived = list(self._watched)
            happened = True
            # It does not end as soon as all is sent: another connection may follow.
            while happened or self._watched:
                for connection in arrived:
                    if self._flush(connection) or connection.released:
                        self._let_go(connection)
                    else:
                        sockets.add(connection)
                happened, ready = sockets.wait(SHORTAGE_LOOK if wakee is None else LOOK)
                for connection in ready:
                    if self._flush(connection):
                        sockets.remove(connection)
                        self._let_go(connection)
                for connection in sockets.closed():
                    sockets.remove(connection)
                    self._let_go(connection)
                arrived = [self._arrived.popleft() for _ in range(len(self._arrived))]

    def _open_waker(self, stack: contextlib.ExitStack) -> socket.socket | None:
        """Make the sockets that wake the thread; ``None`` if no descriptor is left."""
        try:
            waker, wakee = socket.socketpair()
        except OSError:
            return None
        for end in (waker, wakee):
            stack.enter_context(end)
            end.setblocking(False)

        def close() -> None:
            with self._lock:
                self._waker = None

        stack.callback(close)
        self._waker = waker
        return wakee


class _Sockets:
    """Connections whose sockets are waited for until they can be written.

    ``poll`` and ``select`` need no descriptor of their own, unlike epoll, and keep none registered:
    at worst, a number that was closed and reused is checked once.

    :param wakee: a socket that ends the wait when it can be read.
    """

    def __init__(self, wakee: socket.socket | None) -> None:
        self._wakee = wakee
        self._connections: dict[int, Writer] = {}

    def add(self, connection: Writer) -> None:
        self._connections[connection.fd] = connection

    def remove(self, connection: Writer) -> None:
        if self._connections.get(connection.fd) is connection:
            del self._connections[connection.fd]

    def closed(self) -> list[Writer]:
        """Return those that were closed meanwhile."""
        return [connection for connection in self._connections.values() if connection.released]

    def wait(self, timeout: float) -> tuple[bool, list[Writer]]:
        """Wait until some can be written, or the wakee can be read.

        :param timeout: seconds to wait, at most.
        :return: whether anything has happened before that, and which can be written.
        """
        wakee = [] if self._wakee is None else [self._wakee.fileno()]
        ready = _wait(wakee, list(self._connections), timeout)
        if self._wakee is not None and wakee[0] in ready:
            self._wakee.recv(4096)
        return bool(ready), [self._connections[fd] for fd in ready if fd in self._connections]


def _wait(reads: list[int], writes: list[int], timeout: float) -> list[int]:
    """Wait until a descriptor can be read or written; return those that can."""
    # Looked up at each call: gevent replaces select.poll, eventlet and Windows have none.
    poll = getattr(select, "poll", None)
    if poll is not None:
        poller = poll()
        for fd in reads:
            poller.register(fd, select.POLLIN)
        for fd in writes:
            poller.register(fd, select.POLLOUT)
        return [fd for fd, _ in poller.poll(timeout * 1000)]
    ready: list[int] = []
    if len(writes) > MOST_SELECTED:
        timeout = SHORTAGE_LOOK
    for start in range(0, len(writes) or 1, MOST_SELECTED):
        some = writes[start : start + MOST_SELECTED]
        readable, writable, _ = select.select(reads, some, [], 0 if ready else timeout)
        ready += [*readable, *writable]
    return ready


_flushers: PerProcess[tuple[str, HomeThread | None], Flusher] = PerProcess()


def flusher_for(concurrency: Concurrency) -> Flusher:
    """Return this process's flusher for connections that use these primitives in this thread."""
    home = concurrency.home()
    return _flushers.get((concurrency.name, home), lambda: Flusher(concurrency, home))
