"""A TLS client's socket for clients that read in one thread and write in another."""

from __future__ import annotations

import select
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class SharedTLSSocket(ssl.SSLSocket):
    """A TLS socket that two threads may use at once: for a context's ``sslsocket_class``.

    OpenSSL allows one thread at a time, and older versions of Python do not ensure that.
    """

    lock: threading.Lock
    patience: float | None

    def __new__(cls, *args: Any, **kwargs: Any) -> SharedTLSSocket:  # noqa: PYI034
        """Make the socket, with a lock."""
        self = super().__new__(cls, *args, **kwargs)
        self.lock = threading.Lock()
        self.patience = None
        return self

    def settimeout(self, value: float | None) -> None:
        """Set how long an operation may wait, in seconds."""
        # Not during an operation, which would then wait while it holds the lock.
        with self.lock:
            self.patience = value
            super().settimeout(value)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; other threads may send meanwhile."""
        return self._in_turns(lambda: super(SharedTLSSocket, self).recv(buflen, flags))

    def send(self, data: Any, flags: int = 0) -> int:
        """Send; other threads may receive meanwhile."""
        return self._in_turns(lambda: super(SharedTLSSocket, self).send(data, flags))

    def _in_turns(self, operate: Callable[[], T]) -> T:
        """Try an operation until it succeeds, and wait without the lock."""
        while True:
            reading: list[ssl.SSLSocket] = []
            writing: list[ssl.SSLSocket] = []
            with self.lock:
                super().settimeout(0)
                try:
                    return operate()
                except (ssl.SSLWantReadError, BlockingIOError):
                    reading.append(self)
                except ssl.SSLWantWriteError:
                    writing.append(self)
                finally:
                    super().settimeout(self.patience)
            if not any(select.select(reading, writing, [], self.patience)):
                raise TimeoutError("timed out")
