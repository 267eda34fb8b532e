"""What a connection needs of its socket, whatever kind of socket it is; and plain sockets."""

from __future__ import annotations

import _socket
import contextlib
import socket
import time
from collections.abc import Callable

from ..concurrency import Concurrency
from ..protocol.frames import BytesLike
from ..system import DONTWAIT, LONGEST_WAIT, count_unacknowledged, has_gone, is_unix

__all__ = [
    "MOST_UNREAD",
    "PlainTransport",
    "Transport",
    "coalesce",
    "holds_up_peer",
    "release_views",
]

#: The most that is read at once: usually little more than a packet carries, because every waiting
#: thread has a buffer of that size; the large size after a read that has filled the buffer.
RECV_SIZE = 2**11
LARGE_RECV_SIZE = 2**16
#: The most bytes that are counted of what is unread.
MOST_UNREAD = 2**16
#: After this many calls that receive something, other greenlets get to run: a green socket that has
#: something to receive does not switch to them.
TURNS = 32
#: The most that is given to the kernel at once, so that the progress of a long send is seen.
SEND_SIZE = 2**18


class LentSocket(_socket.socket):
    """A C-level socket on a file descriptor that another object owns and closes."""

    __slots__ = ()

    def __del__(self) -> None:
        # The parent's would close the file descriptor, or a newer one with the same number.
        self.detach()


def holds_up_peer(sock: _socket.socket, unread: int) -> bool:
    """Tell whether a peer may have to wait before it can send more.

    :param unread: the bytes that are there to be received, counted up to :data:`MOST_UNREAD`.
    """
    # A Unix socket is full of fewer bytes, where each of many messages came by itself.
    return unread == MOST_UNREAD or (unread > 0 and is_unix(sock))


class Transport:
    """A stream socket, with blocking and non-blocking calls.

    One thread may receive while another sends. End of stream is ``b""``; a connection that
    failed raises :exc:`OSError`.

    :param sock: the socket.
    :param concurrency: the primitives to wait with.
    :param close: closes the connection for good.
    """

    __slots__ = (
        "_close",
        "_concurrency",
        "_green",
        "_raw",
        "_recv_size",
        "_turns",
        "fd",
        "sent",
        "sock",
        "unsure",
    )

    def __init__(
        self, sock: socket.socket, concurrency: Concurrency, close: Callable[[], None]
    ) -> None:
        self.sock = sock
        # At C level: once detached, a TLS socket's own fileno() is that of a closed one.
        native = isinstance(sock, _socket.socket)
        self.fd = _socket.socket.fileno(sock) if native else sock.fileno()
        self._concurrency = concurrency
        self._green = concurrency.green
        self._turns = 0
        self._close = close
        # The same descriptor at C level: never green, and never closed here.
        self._raw = LentSocket(fileno=self.fd)
        # Otherwise its calls would wait if the process has a default timeout.
        self._raw.setblocking(False)
        self._recv_size = RECV_SIZE
        #: Bytes that the kernel has taken.
        self.sent = 0
        #: Whether it may have taken more: a signal handler's exception came before the count.
        self.unsure = False
        # Absent on Unix sockets. Without it, a small message waits for the last one's ACK.
        with contextlib.suppress(OSError):
            self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # Without waiting

    def try_recv(self) -> bytes | None:
        """Receive what is there; ``None`` if nothing is."""
        raise NotImplementedError

    def try_recv_into(self, buffer: memoryview) -> int | None:
        """Receive what is there into a buffer; ``None`` if nothing is, 0 at the end."""
        raise NotImplementedError

    def try_send(self, data: BytesLike) -> int:
        """Send what the kernel takes; if it takes nothing, the same data must be sent next."""
        raise NotImplementedError

    # At C level: eventlet allows no second greenlet to wait for a socket, not even for 0 s.

    def count_unread(self) -> int:
        """Count the bytes that are there to be received, up to :data:`MOST_UNREAD`."""
        try:
            return len(self._raw.recv(MOST_UNREAD, DONTWAIT | socket.MSG_PEEK))
        except OSError:
            # Nothing, or an error that the next recv() raises.
            return 0

    def holds_up_peer(self, unread: int) -> bool:
        """Tell whether the peer may have to wait before it can send more."""
        return holds_up_peer(self._raw, unread)

    def has_gone(self) -> bool:
        """Tell whether the peer has ended the connection, even if unread bytes come before that."""
        try:
            return has_gone(self._raw)
        except OSError:
            return True

    def is_acknowledged(self) -> bool:
        """Tell whether the peer's system has got all that was sent, as far as ours can tell."""
        try:
            return count_unacknowledged(self._raw) == 0
        except OSError:
            return False

    def _adapt(self, data: bytes) -> bytes:
        self._recv_size = LARGE_RECV_SIZE if len(data) == self._recv_size else RECV_SIZE
        return data

    # Waiting

    def recv(self, timeout: float | None = None) -> bytes:
        """Receive a part of what arrives.

        :param timeout: seconds to wait for the first byte; ``None`` waits for ever, and 0 not at
            all.
        :raises TimeoutError: the time is up.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._green:
            self._take_turn()
        while True:
            data = self.try_recv()
            if data is not None:
                return data
            if timeout == 0:
                raise TimeoutError
            self._wait_to_receive(deadline)

    def recv_into(self, buffer: memoryview, timeout: float | None = None) -> int:
        """Receive into a buffer; otherwise as :meth:`recv`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._green:
            self._take_turn()
        while True:
            size = self.try_recv_into(buffer)
            if size is not None:
                return size
            if timeout == 0:
                raise TimeoutError
            self._wait_to_receive(deadline)

    def _take_turn(self) -> None:
        self._turns += 1
        # A buffer that the peer has filled takes a while to process.
        if self._turns % TURNS == 0 or self._recv_size == LARGE_RECV_SIZE:
            self._concurrency.pause()

    def send(self, buffers: list[BytesLike]) -> None:
        """Send all of ``buffers``, and return when the kernel has it.

        An exception of another greenlet's or a signal's may interrupt it; then :attr:`sent` tells
        how far it has come.
        """
        if len(buffers) == 1:
            # Most messages are small, and are sent whole.
            data = buffers[0]
            sent = self.try_send(data)
            if sent != len(data):
                self._send_rest(data, sent)
            return
        parts = coalesce(buffers)
        try:
            for part in parts:
                self._send_rest(part, 0)
        finally:
            # A stored exception keeps this frame alive; a buffer with a view cannot be resized.
            release_views(parts)

    def _send_rest(self, data: BytesLike, start: int) -> None:
        """Send all of ``data`` from ``start`` on."""
        size = len(data)
        with memoryview(data) as view:
            while start < size:
                with view[start : start + SEND_SIZE] as part:
                    sent = self._send_some(part)
                start += sent

    def _send_some(self, data: memoryview) -> int:
        """Send some of ``data``, or wait until that is possible."""
        sent = self.try_send(data)
        if not sent:
            self._concurrency.wait_writable(self.fd, LONGEST_WAIT)
        return sent

    def _wait_to_receive(self, deadline: float | None) -> None:
        left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
        if left >= LONGEST_WAIT:
            # Readable or not, the caller tries again.
            self._concurrency.wait_readable(self.fd, LONGEST_WAIT)
        elif not self._concurrency.wait_readable(self.fd, max(0.0, left)):
            raise TimeoutError

    # Closing

    def half_close(self) -> None:
        """Tell the peer that nothing more will be sent (a FIN, after TLS's close_notify)."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)

    def stop_reading(self) -> None:
        """Receive no more: a thread that waits for data wakes up, at the end of the stream."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RD)

    def abort(self) -> None:
        """Shut down both directions: threads that wait for it, at both ends, wake up."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; nobody may be using it any more."""
        self._raw.detach()
        self._close()


class PlainTransport(Transport):
    """A plain socket."""

    __slots__ = ("_native", "_sock_recv", "_sock_send")

    def __init__(
        self, sock: socket.socket, concurrency: Concurrency, close: Callable[[], None]
    ) -> None:
        super().__init__(sock, concurrency, close)
        # Where one call can be made non-blocking, waiting is left to the socket's own methods:
        # the kernel's on a native socket, the hub's on a green one.
        if DONTWAIT:
            sock.settimeout(None)
        self._sock_recv = self._recv_in_turn if self._green else sock.recv
        self._sock_send = sock.send
        self._native = isinstance(sock, _socket.socket)

    def _recv_in_turn(self, size: int) -> bytes:
        self._take_turn()
        return self.sock.recv(size)

    def try_recv(self) -> bytes | None:
        try:
            return self._adapt(self._raw.recv(self._recv_size, DONTWAIT))
        except (BlockingIOError, InterruptedError):
            return None

    def try_recv_into(self, buffer: memoryview) -> int | None:
        try:
            return self._raw.recv_into(buffer, len(buffer), DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return None

    def try_send(self, data: BytesLike) -> int:
        self.unsure = True
        try:
            sent = self._raw.send(data, DONTWAIT)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self.sent += sent
        self.unsure = False
        return sent

    if DONTWAIT:

        def recv(self, timeout: float | None = None) -> bytes:
            data: bytes
            size = self._recv_size
            if timeout is None:
                data = self._sock_recv(size)
            elif timeout:
                return super().recv(timeout)
            else:
                try:
                    data = self._raw.recv(size, DONTWAIT)
                except (BlockingIOError, InterruptedError):
                    raise TimeoutError from None
            self._recv_size = LARGE_RECV_SIZE if len(data) == size else RECV_SIZE
            return data

        def recv_into(self, buffer: memoryview, timeout: float | None = None) -> int:
            if timeout is None:
                if self._green:
                    self._take_turn()
                return self.sock.recv_into(buffer)
            return super().recv_into(buffer, timeout)

        def send(self, buffers: list[BytesLike]) -> None:
            if len(buffers) != 1:
                super().send(buffers)
                return
            # As try_send() does, a call of which would cost a small message more than this.
            data = buffers[0]
            self.unsure = True
            try:
                sent = self._raw.send(data, DONTWAIT)
            except (BlockingIOError, InterruptedError):
                sent = 0
            self.sent += sent
            self.unsure = False
            if sent != len(data):
                self._send_rest(data, sent)

        def _send_some(self, data: memoryview) -> int:
            sent = self.try_send(data)
            if not sent:
                if self._native:
                    # Not in send(): after a signal handler's exception, what it took is unknown.
                    self._concurrency.wait_writable(self.fd, LONGEST_WAIT)
                else:
                    sent = self._sock_send(data)
                    self.sent += sent
            return sent


def release_views(buffers: list[BytesLike]) -> None:
    """Release those of ``buffers`` that are views."""
    for buffer in buffers:
        if isinstance(buffer, memoryview):
            buffer.release()


def coalesce(buffers: list[BytesLike]) -> list[BytesLike]:
    """Join a frame's header with the beginning of its payload, so that they leave in one packet."""
    if len(buffers) == 1:
        return buffers
    header, payload = buffers
    with memoryview(payload) as view, view[:LARGE_RECV_SIZE] as beginning:
        return [b"".join((header, beginning)), view[LARGE_RECV_SIZE:]]
