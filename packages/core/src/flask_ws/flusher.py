"""Sending what the kernel did not take at once, when it can take more."""

from __future__ import annotations

import os
import selectors
from collections import deque
from collections.abc import Callable

from .concurrency import Concurrency
from .connection import Connection

__all__ = ["Flusher", "flusher_for"]

#: Seconds between two looks for connections that have got stuck meanwhile.
LOOK = 0.02


class Flusher:
    """Flushes the outboxes of the connections whose peers read slowly.

    It has a thread while there are any; greenlets, being cheap, have one for each of them.

    :param concurrency: the primitives of the connections.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self._lock = concurrency.lock()
        self._arrived: deque[Connection] = deque()
        self._watched: set[Connection] = set()
        self._running = False

    def watch(self, connection: Connection) -> None:
        """Flush a connection's outbox as its socket becomes writable."""
        with self._lock:
            if connection in self._watched:
                return
            self._watched.add(connection)
            if not self._concurrency.green:
                self._arrived.append(connection)
                if self._running:
                    return
                self._running = True
        run: Callable[[], object] = self._run
        if self._concurrency.green:
            run = self._follow(connection)
        self._concurrency.spawn(run, "flask_ws.Flusher")

    def _follow(self, connection: Connection) -> Callable[[], None]:
        def run() -> None:
            while not connection.flush(later=False):
                if connection.released or not connection.wait_writable(1.0):
                    break
            with self._lock:
                self._watched.discard(connection)
            if not connection.released:
                connection.flush()

        return run

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            while True:
                with self._lock:
                    if not self._watched:
                        self._running = False
                        return
                while self._arrived:
                    connection = self._arrived.popleft()
                    if not self._flush(connection):
                        if connection.fd in selector.get_map():
                            # The number of a connection that was closed while it waited here.
                            selector.unregister(connection.fd)
                        selector.register(connection.fd, selectors.EVENT_WRITE, connection)
                for key, _ in selector.select(LOOK):
                    if self._flush(key.data):
                        selector.unregister(key.fd)
                for key in list(selector.get_map().values()):
                    if key.data.released:
                        selector.unregister(key.fd)
                        self._flush(key.data)

    def _flush(self, connection: Connection) -> bool:
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
