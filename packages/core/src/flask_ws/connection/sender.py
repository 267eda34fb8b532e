"""What goes to the peer of a connection: who may send it, when, and in which order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..concurrency import Concurrency, Event
from ..exceptions import ConnectionClosed
from ..protocol.frames import BytesLike, SharedMessage
from ..protocol.protocol import Protocol
from ..system import TIMEOUT_MAX
from .outbox import Outbox
from .transport import Transport, coalesce

__all__ = ["Sender", "keep"]

logger = logging.getLogger("flask_ws")

ABNORMAL_CLOSURE = 1006
TRY_AGAIN_LATER = 1013

LOST_WHILE_SENDING = "the connection was lost while sending"


class Sender:
    """A connection, as far as it concerns those who send on it; any thread may.

    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param close_timeout: seconds that a closing handshake may take.
    :param max_outbox: bytes that may wait for the peer to read, of what was sent without waiting.
    :param label: the name of the connection in logs.
    """

    __slots__ = (
        "_close_timeout",
        "_closing",
        "_ended",
        "_max_outbox",
        "_outbox",
        "_peer_closed",
        "_protocol",
        "_sent_close",
        "_transport",
        "_writing",
        "close_code",
        "close_reason",
        "concurrency",
        "fd",
        "home",
        "label",
        "linger_until",
        "messages_sent",
        "released",
        "when_blocked",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        *,
        concurrency: Concurrency,
        close_timeout: float,
        max_outbox: int,
        label: str,
    ) -> None:
        #: The name of the connection in logs.
        self.label = label
        self._transport = transport
        self._protocol = protocol
        self._close_timeout = min(close_timeout, TIMEOUT_MAX)
        self._max_outbox = max_outbox
        # Held by whoever writes to the socket.
        self._writing = concurrency.lock()
        # What others had to send meanwhile, and what the kernel did not take; goes out first.
        self._outbox = Outbox(concurrency)
        # Taken, and kept, by the first to send a close frame.
        self._closing = concurrency.lock()
        self._sent_close: tuple[int, str] | None = None
        # Whether the peer has sent a close frame, after which it sends nothing.
        self._peer_closed = False
        # Set at the end, for a closer that waits while another thread reads.
        self._ended: Event | None = None
        #: Until when the peer of a failed connection is given to read the close frame.
        self.linger_until: float | None = None
        #: Whether the socket has been closed.
        self.released = False
        #: The file descriptor.
        self.fd = transport.fd
        #: The primitives that go with the socket.
        self.concurrency = concurrency
        #: The thread where they work, if they do in one only.
        self.home = concurrency.home()
        #: Called when the kernel does not take all of the outbox.
        self.when_blocked: Callable[[Sender], None] | None = None
        #: The close code (RFC 6455 section 7.1.5) once the connection is closed: a close frame's
        #: own, 1005 where it had none, 1006 where the connection was lost.
        self.close_code: int | None = None
        #: The reason that came with it.
        self.close_reason = ""
        #: Messages so far.
        self.messages_sent = 0

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self.close_code is None and self._sent_close is None

    def check_connected(self) -> None:
        """Check that messages can be sent.

        :raises ConnectionClosed: they cannot.
        """
        if not self.connected:
            raise self._error()

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far."""
        return self._transport.sent

    # Messages

    def send(self, data: str | BytesLike) -> None:
        """Send a message (RFC 6455 section 5.6); any thread may.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary. Returns when the operating system has taken all of it.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: ``data`` is something else.
        """
        self._write(self._protocol.send_message, data, 1)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping (RFC 6455 section 5.5.2); any thread may.

        There is seldom a need for it: flask-ws does so by itself, see ``SOCK_PING_INTERVAL``.

        :param payload: up to 125 bytes, which come back in the pong.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises ValueError: ``payload`` is too long.
        """
        self._write(self._protocol.send_ping, payload, 0)

    def _write(self, encode: Callable[..., list[BytesLike]], data: object, count: int) -> None:
        failed = False
        try:
            with self._writing:
                if self._outbox.frames:
                    failed = not self._send_queued()
                if not failed:
                    if self._sent_close is not None or self.close_code is not None:
                        raise self._error()
                    # Within the lock: a compressed message builds on the one sent before it.
                    buffers = encode(data)
                    try:
                        self._transport.send(buffers)
                    except (OSError, ValueError):
                        failed = True
                    else:
                        self.messages_sent += count
        finally:
            # Whoever had to send something meanwhile has left it to this thread.
            if self._outbox.frames and not failed:
                self.flush()
        if failed:
            self._explain_loss()
            raise self._error()

    def _send_queued(self) -> bool:
        """Send what goes before a message; ``False`` if the connection is lost."""
        try:
            # Not a close frame, though: no message may follow one.
            while self._outbox.frames and self._sent_close is None:
                self._transport.send([self._outbox.take()])
        except (OSError, ValueError):
            return False
        return True

    def _explain_loss(self) -> None:
        """After a send that failed, say what became of the connection."""
        self.lose(LOST_WHILE_SENDING)

    # Messages that many connections get

    def send_shared(self, message: SharedMessage) -> None:
        """Send a message that others get as well, without waiting; must be called at home.

        What the kernel does not take goes to the outbox; past its limit, the connection is closed
        with 1013. A closed connection gets nothing.
        """
        writing = self._writing
        if writing.acquire(False):
            try:
                if self._sent_close is None and self.close_code is None:
                    # Within the lock: a compressed message builds on the one sent before it.
                    frame = self._protocol.send_shared(message)
                    if self._outbox.frames:
                        self._queue([frame])
                    else:
                        self._send_or_queue([frame])
                    self.messages_sent += 1
            finally:
                writing.release()
            if not self._outbox.frames:
                return
            # What waits, and what others have left to this thread meanwhile.
        # Not compressed: what is being sent just now may have changed the compressor's history.
        elif self._queue([message.plain]):
            self.messages_sent += 1
        self.flush()
        if self._outbox.size > self._max_outbox:
            self._overflow()

    def queue_shared(self, message: SharedMessage) -> None:
        """Put a message that others get as well into the outbox; :meth:`flush` must follow.

        Otherwise as :meth:`send_shared`.
        """
        frame = message.plain
        writing = self._writing
        if message.worth_deflating and self._protocol.deflates and writing.acquire(False):
            try:
                frame = self._protocol.send_shared(message)
                self._queue_shared(frame)
            finally:
                writing.release()
        else:
            self._queue_shared(frame)
        if self._outbox.size > self._max_outbox:
            self.flush()
            if self._outbox.size > self._max_outbox:
                self._overflow()

    def _queue_shared(self, frame: bytes) -> None:
        if self.close_code is None and self._outbox.append(frame):
            self.messages_sent += 1

    def _send_or_queue(self, parts: list[BytesLike]) -> None:
        """Send what the kernel takes of a frame; the rest goes out before anything else."""
        for number, part in enumerate(parts):
            try:
                sent = self._transport.try_send(part)
            except (OSError, ValueError):
                self.lose(LOST_WHILE_SENDING)
                return
            if sent < len(part):
                self._outbox.put_back(memoryview(part)[sent:], *parts[number + 1 :])
                return

    def _overflow(self) -> None:
        # Others may find it too full at the same time. Behind a close frame it does not grow.
        if self.close_code is not None or not self._closing.acquire(False):
            return
        logger.warning(
            "%s: the peer reads too slowly: %d bytes wait for it, the limit is %d "
            "(SOCK_MAX_OUTBOX)",
            self.label,
            self._outbox.size,
            self._max_outbox,
        )
        self._fail(TRY_AGAIN_LATER, "you read too slowly", closing=True)

    # What goes out without waiting

    @property
    def is_sending(self) -> bool:
        """Whether something is on its way out, and a ping would have to wait behind it."""
        if self._outbox.frames or not self._writing.acquire(False):
            return True
        self._writing.release()
        return False

    def post_ping(self) -> None:
        """Send a ping without waiting."""
        if self.connected:
            self.post(self._protocol.send_ping())

    def post(self, buffers: list[BytesLike]) -> None:
        """Send a frame without waiting: what cannot go now goes as soon as it can."""
        self._queue(buffers)
        self.flush()

    def _queue(self, buffers: list[BytesLike]) -> bool:
        """Put a frame into the outbox; ``False`` if a close frame is there, or was sent."""
        return self._outbox.append(*keep(buffers))

    def _queue_close(self, code: int, reason: str) -> None:
        """Put a close frame into the outbox, as its last."""

        def announce() -> None:
            self._sent_close = (code, reason)

        (frame,) = self._protocol.send_close(code, reason)
        self._outbox.close(frame, announce)

    def flush(self, *, later: bool = True) -> bool:
        """Send of the outbox what the kernel takes.

        :param later: whether the rest is to be sent when the socket is writable.
        :return: whether nothing is left, or another thread has taken it upon itself.
        """
        done = True
        outbox = self._outbox
        frame: BytesLike | None = None
        # Whoever holds the lock looks into the outbox again after releasing it.
        while done and outbox.frames and self._writing.acquire(False):
            try:
                while done and outbox.frames:
                    frame = outbox.peek()
                    sent = self._transport.try_send(frame)
                    done = sent == len(frame)
                    outbox.sent(sent)
                if done and self.linger_until is not None:
                    # That was the close frame.
                    self._transport.end()
                    if self._peer_closed:
                        self._transport.abort()
            except (OSError, ValueError):
                outbox.clear()
                self.lose(LOST_WHILE_SENDING)
            except BaseException:
                # Ctrl-C, raised by Python when the kernel has taken the frame: once is enough.
                if outbox.frames and outbox.frames[0] is frame:
                    outbox.take()
                raise
            finally:
                self._writing.release()
        if later and not done and self.when_blocked is not None:
            self.when_blocked(self)
        return done

    def wait_writable(self, timeout: float) -> bool:
        """Wait until the socket can be written."""
        return self.concurrency.wait_writable(self.fd, timeout)

    # The close frame

    def go_away(self, code: int, reason: str) -> None:
        """Send a close frame, without waiting for anything."""
        if self.close_code is None:
            self._post_close(code, reason)

    def _post_close(self, code: int, reason: str) -> None:
        if self._closing.acquire(False):
            self._queue_close(code, reason)
            self.flush()

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (section 7.1.7): tell the peer why, and hear no more of it."""
        if self.close_code is None:
            self._fail(code, reason, closing=self._closing.acquire(False))

    def _fail(self, code: int, reason: str, *, closing: bool) -> None:
        self._set_closed(code, reason)
        self._begin_lingering()
        if closing:
            self._queue_close(code, reason)
            self.flush()
        if not self._outbox.frames:
            self._transport.end()

    def _begin_lingering(self) -> None:
        """Give the peer time to read the close frame."""
        self.linger_until = time.monotonic() + self._close_timeout

    # The end

    def lose(self, reason: str) -> None:
        """Count the connection as lost, unless it is closed already, and wake who waits for it."""
        if self.close_code is None:
            self._set_closed(ABNORMAL_CLOSURE, reason)
            self._transport.abort()

    def _set_closed(self, code: int, reason: str) -> None:
        self.close_reason = reason
        self.close_code = code
        if self._ended is not None:
            self._ended.set()

    def _error(self) -> ConnectionClosed:
        if self.close_code is not None:
            return ConnectionClosed(self.close_code, self.close_reason)
        code, reason = self._sent_close or (ABNORMAL_CLOSURE, "")
        return ConnectionClosed(code, reason)


def keep(buffers: list[BytesLike]) -> list[BytesLike]:
    """Return a frame in parts that stay what they are until they are sent."""
    if len(buffers) == 1:
        return buffers
    header, payload = buffers
    if not isinstance(payload, bytes):
        payload = bytes(payload)
    return coalesce([header, payload])
