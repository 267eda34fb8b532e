"""A TLS socket, and what OpenSSL asks of those who use it."""

from __future__ import annotations

import _socket
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from ..concurrency import Concurrency
from ..protocol.frames import BytesLike
from .transport import LARGE_RECV_SIZE, SEND_SIZE, Transport

__all__ = ["TLSTransport"]


class TLSTransport(Transport):
    """A TLS socket, whose C-level object is used by one thread at a time."""

    __slots__ = ("_lock", "_sslobj", "wants_write")

    def __init__(
        self,
        sock: socket.socket,
        concurrency: Concurrency,
        close: Callable[[], None],
    ) -> None:
        super().__init__(sock, concurrency, close)
        # At C level: eventlet's own settimeout() does not reach the descriptor. gevent's socket
        # is no native one, and non-blocking already.
        if isinstance(sock, _socket.socket):
            _socket.socket.settimeout(sock, 0)
        self._sslobj: Any = sock._sslobj  # type: ignore[attr-defined]
        self._lock = concurrency.lock()
        #: Whether what is to be read waits for something to be written.
        self.wants_write = False

    def try_recv(self) -> bytes | None:
        data: bytes | None = self._read(LARGE_RECV_SIZE)
        return data

    def try_recv_into(self, buffer: memoryview) -> int | None:
        size: int | None = self._read(len(buffer), buffer)
        return size

    def _read(self, *arguments: Any) -> Any:
        with self._lock:
            self.wants_write = False
            try:
                return try_twice(self._sslobj.read, *arguments)
            except ssl.SSLWantReadError:
                return None
            except ssl.SSLWantWriteError:
                self.wants_write = True
                return None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b"" if len(arguments) == 1 else 0

    def try_send(self, data: BytesLike) -> int:
        if len(data) <= SEND_SIZE:
            return self._write(data)
        # OpenSSL requires that a write is repeated with the same length, or a larger one: so the
        # pieces are as large as those of _send_rest().
        total = sent = 0
        with memoryview(data) as view:
            while total < len(data):
                with view[total : total + SEND_SIZE] as part:
                    sent = self._write(part)
                total += sent
                if not sent:
                    break
        return total

    def _write(self, data: BytesLike) -> int:
        with self._lock:
            self.unsure = True
            sent = 0
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                sent = try_twice(self._sslobj.write, data)
            self.sent += sent
            self.unsure = False
        return sent

    def _wait_to_receive(self, deadline: float | None) -> None:
        # A key update can make a read wait for a write.
        if self.wants_write:
            self._concurrency.wait_writable(self.fd, 1.0)
        else:
            super()._wait_to_receive(deadline)

    def half_close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            try_twice(self._sslobj.shutdown)
        super().half_close()


#: With these a TLS object reports its state; they are no failures.
ANSWERS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLZeroReturnError)
_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def try_twice(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a method of a TLS object, and once more if it fails.

    OpenSSL keeps a list of errors for each thread, and CPython 3.12.8 and later leave those of
    system calls in it (python/cpython#148594). The next TLS connection on that thread which has
    nothing to receive seems to have failed as well.
    """
    try:
        return call(*arguments)
    except ANSWERS:
        raise
    except OSError:
        forget_errors()
    try:
        return call(*arguments)
    except ANSWERS:
        raise
    except OSError:
        # The next TLS call on this thread must not find it.
        forget_errors()
        raise


def forget_errors() -> None:
    """Empty this thread's list of OpenSSL errors, as ``set_ciphers()`` does."""
    with contextlib.suppress(ssl.SSLError):
        _context.set_ciphers("none")
