"""One open WebSocket connection: a transport, a protocol, and who may use them when."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import overload

from .concurrency import Concurrency, Event
from .events import MESSAGE_TOO_BIG, Close, Ping, Violation
from .events import Event as ProtocolEvent
from .exceptions import ConnectionClosed
from .frames import BytesLike, SharedMessage
from .outbox import Outbox
from .protocol import Protocol
from .transport import Transport, coalesce

__all__ = ["Connection"]

logger = logging.getLogger("flask_ws")

NORMAL_CLOSURE = 1000
NO_STATUS = 1005
ABNORMAL_CLOSURE = 1006
TRY_AGAIN_LATER = 1013

NO_CLOSE_FRAME = "the connection was lost without a close frame"

#: Bytes that wait, past which pings are not answered.
PONG_LIMIT = 2**16

#: Close codes that an endpoint may send (RFC 6455 section 7.4; 1012 to 1014 by IANA's registry).
SENDABLE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class Connection:
    """An endpoint of a WebSocket connection, server or client.

    The thread that calls :meth:`receive` reads the socket itself. Everything else, sending and
    closing, may be done from any thread. While no thread receives, :meth:`service` does what
    cannot wait: it answers pings and closes, and lets a few messages in.

    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param close_timeout: seconds that a closing handshake may take.
    :param max_queue: messages that :meth:`service` lets in.
    :param max_outbox: bytes that may wait for the peer to read, of what was sent without waiting.
    :param label: the name of the connection in logs.
    """

    #: Whether the monitor is to see to what the peer sends: a handler may be busy elsewhere.
    unattended = True

    __slots__ = (
        "_attended",
        "_close_timeout",
        "_closing",
        "_ended",
        "_max_outbox",
        "_max_queue",
        "_messages",
        "_outbox",
        "_peer_closed",
        "_pong",
        "_protocol",
        "_reading",
        "_sent_close",
        "_transport",
        "_writing",
        "at_work",
        "bytes_received",
        "close_code",
        "close_reason",
        "concurrency",
        "fd",
        "home",
        "label",
        "linger_until",
        "messages_received",
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
        max_queue: int,
        max_outbox: int = 2**20,
        label: str = "WebSocket",
    ) -> None:
        #: The name of the connection in logs.
        self.label = label
        self._transport = transport
        self._protocol = protocol
        self._close_timeout = close_timeout
        self._max_queue = max_queue
        self._max_outbox = max_outbox
        # Held by whoever reads the socket; and whether that is a caller of receive().
        self._reading = concurrency.lock()
        self._attended = False
        self._messages: deque[str | bytes] | None = None
        # Held by whoever writes to the socket.
        self._writing = concurrency.lock()
        # What others had to send meanwhile, and what the kernel did not take; goes out first.
        self._outbox = Outbox(concurrency)
        # The last pong that was put there.
        self._pong: BytesLike | None = None
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
        #: Whether a handler, or a method of an event view, is running.
        self.at_work = False
        #: The file descriptor.
        self.fd = transport.fd
        #: The primitives that go with the socket.
        self.concurrency = concurrency
        #: The thread where they work, if they do in one only.
        self.home = concurrency.home()
        #: Called when the kernel does not take all of the outbox.
        self.when_blocked: Callable[[Connection], None] | None = None
        #: The close code (RFC 6455 section 7.1.5) once the connection is closed: a close frame's
        #: own, 1005 where it had none, 1006 where the connection was lost.
        self.close_code: int | None = None
        #: The reason that came with it.
        self.close_reason = ""
        #: Messages and bytes so far.
        self.messages_received = 0
        self.messages_sent = 0
        self.bytes_received = 0

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

    def begin(self, head: bytes, early: bytes) -> None:
        """Send the answer to the handshake.

        :param head: the answer.
        :param early: what was received along with the handshake.
        """
        if early:
            self._protocol.receive_data(early)
            self.bytes_received += len(early)
        try:
            self._transport.send([head])
        except (OSError, ValueError):
            self.lose("the connection was lost before the handshake was answered")

    # Receiving

    @overload
    def receive(self, timeout: None = None) -> str | bytes: ...

    @overload
    def receive(self, timeout: float | None) -> str | bytes | None: ...

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Receive the next message; one thread at a time.

        :param timeout: seconds to wait for it; 0 takes what is there; ``None``, the default,
            waits for as long as the connection lives.
        :return: ``str`` for a text message, ``bytes`` for a binary one, ``None`` when the time
            is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises RuntimeError: another thread is in ``receive()`` already.
        """
        if not self._reading.acquire(False):
            self._wait_for_turn()
        self._attended = True
        try:
            if self._messages:
                return self._messages.popleft()
            deadline = None if timeout is None else time.monotonic() + timeout
            protocol = self._protocol
            while self.close_code is None:
                event = None if protocol.drained else protocol.next_event()
                if event is None:
                    event = self._read(
                        None if deadline is None else max(0.0, deadline - time.monotonic())
                    )
                if type(event) is bytes or type(event) is str:
                    if self._sent_close is None:
                        self.messages_received += 1
                        return event
                elif event is not None:
                    self._handle(event)
            raise self._error()
        except TimeoutError:
            if timeout is None:
                # Not ours: a signal's handler has raised it.
                raise
            return None
        finally:
            self._attended = False
            self._reading.release()

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive messages until the connection is closed, by whomever and for whatever reason."""
        receive = self.receive
        try:
            while True:
                yield receive()
        except ConnectionClosed:
            return

    def _wait_for_turn(self) -> None:
        if self._attended:
            raise RuntimeError(
                "Another thread is in receive() on this connection: let one thread receive and "
                "hand the messages on."
            )
        # Whoever else reads does so without waiting.
        self._reading.acquire()

    def _read(self, timeout: float | None) -> ProtocolEvent | None:
        """Read once, and return the next event, if that has brought one.

        :param timeout: seconds to wait for something to read; ``None`` for ever.
        :raises TimeoutError: the time is up.
        """
        protocol = self._protocol
        partial = protocol.partial
        data = b""
        try:
            if partial is None:
                data = self._transport.recv(timeout)
                size = len(data)
            else:
                size = self._transport.recv_into(partial.get_buffer(), timeout)
        except TimeoutError as error:
            # The socket's own timeout, as for keepalive probes, is an error like any other.
            if error.errno is None and timeout is not None:
                raise
            size = 0
        except (OSError, ValueError):
            size = 0
        if not size:
            self.lose(NO_CLOSE_FRAME)
            return None
        self.bytes_received += size
        if partial is not None:
            protocol.buffer_updated(size)
        return protocol.next_event(data)

    def _handle(self, event: ProtocolEvent) -> None:
        """Do what an event other than a message asks for."""
        if isinstance(event, Ping):
            self._answer_ping(event.payload)
        elif isinstance(event, Close):
            self._peer_closed = True
            self._set_closed(event.code, event.reason)
            self._post_close(event.code, event.reason)
            # The answer may wait behind a message; then whoever sends it sees to the end.
            if not self._outbox.call_if_any(self._begin_lingering):
                self._transport.end()
        elif isinstance(event, Violation):
            setting = " (SOCK_MAX_MESSAGE_SIZE)" if event.code == MESSAGE_TOO_BIG else ""
            logger.warning(
                "%s: the peer is at fault: %s %s%s", self.label, event.code, event.reason, setting
            )
            self.fail(event.code, event.reason)

    def _answer_ping(self, payload: bytes) -> None:
        # A peer that pings and does not read gets no more pongs: one that waits will do
        # (section 5.5.3).
        waits = self._pong is not None and self._outbox.holds(self._pong)
        if self._sent_close is None and not waits and self._outbox.size < PONG_LIMIT:
            (self._pong,) = buffers = self._protocol.send_pong(payload)
            self.post(buffers)

    # Sending

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
                self.lose("the connection was lost while sending")
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
                self.lose("the connection was lost while sending")
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

    def _explain_loss(self) -> None:
        """After a send that failed: the peer's close frame may be waiting to be read."""
        if self._reading.acquire(False):
            try:
                self._pump()
            finally:
                self._reading.release()
        self.lose("the connection was lost while sending")

    # Closing

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection with a closing handshake (RFC 6455 section 7); any thread may.

        Waits up to ``close_timeout`` seconds for the peer's answer, and drops what it sends
        before that. Does nothing on a closed connection.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        check_close(code, reason)
        if self.close_code is not None:
            return
        deadline = time.monotonic() + self._close_timeout
        if self._closing.acquire(False):
            # Wait for whoever sends just now, so that the frame goes out at once.
            if not self._writing.acquire(True, self._close_timeout):
                self.lose("no room for a close frame within close_timeout")
                return
            self._queue_close(code, reason)
            self._writing.release()
            self.flush()
        self._await_close(deadline)

    def go_away(self, code: int, reason: str) -> None:
        """Send a close frame, without waiting for anything."""
        if self.close_code is None:
            self._post_close(code, reason)

    def _post_close(self, code: int, reason: str) -> None:
        if self._closing.acquire(False):
            self._queue_close(code, reason)
            self.flush()

    def _await_close(self, deadline: float) -> None:
        """Wait for the peer's close frame; without one, the connection is lost."""
        if self._reading.acquire(False):
            try:
                while self.close_code is None and time.monotonic() < deadline:
                    event = self._protocol.next_event()
                    if event is None:
                        # What could not be sent yet is tried again now and then.
                        left = max(0.0, deadline - time.monotonic())
                        with contextlib.suppress(TimeoutError):
                            event = self._read(left if self.flush() else min(left, 0.05))
                    if event is not None:
                        self._handle(event)
            finally:
                self._reading.release()
        else:
            # Another thread reads: it will see the answer.
            if self._ended is None:
                self._ended = self.concurrency.event()
            if self.close_code is None:
                self._ended.wait(max(0.0, deadline - time.monotonic()))
        self.lose("the peer did not answer the close frame")

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

    def release(self) -> None:
        """Close the socket. The connection is closed; other threads get :exc:`ConnectionClosed`."""
        self.lose("the connection was dropped")
        if self.linger_until is not None and not self.released:
            self._linger(self.linger_until)
        # Whoever still waits for the socket must be out before its descriptor is another's.
        self._transport.abort()
        with self._reading, self._writing:
            if not self.released:
                self.released = True
                self._outbox.clear()
                self._transport.close()

    def _linger(self, deadline: float) -> None:
        # The close frame, and the message that it may wait behind, go out first.
        while self.is_sending and (left := deadline - time.monotonic()) > 0:
            if self._writing.acquire(True, left):
                self._writing.release()
            if not self.flush(later=False):
                self.wait_writable(min(left, 0.05))
        # To close a socket with unread bytes resets it, and the close frame is lost with it.
        with self._reading:
            try:
                self._transport.end()
                while self._transport.recv(max(0.0, deadline - time.monotonic())):
                    if time.monotonic() > deadline:
                        break
            except (OSError, ValueError):
                pass

    # While no thread receives

    @property
    def is_backed_up(self) -> bool:
        """Whether nothing is read, because enough messages wait for a busy handler."""
        return self._queue_is_full() and not self._attended

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

    def service(self) -> None:
        """Read what is there, unless a thread is receiving: never waits."""
        if self.linger_until is not None and time.monotonic() >= self.linger_until:
            # A sender may be stuck on a peer that has closed, or was told to.
            self._transport.abort()
            return
        if self._outbox.frames:
            self.flush()
        if self._reading.acquire(False):
            try:
                self._pump()
            finally:
                self._reading.release()

    def _queue_is_full(self) -> bool:
        return self._messages is not None and len(self._messages) >= self._max_queue

    def _pump(self) -> None:
        while self.close_code is None and not self._queue_is_full():
            event = self._protocol.next_event()
            if event is None:
                if self.released:
                    break
                try:
                    event = self._read(0)
                except TimeoutError:
                    break
            if isinstance(event, (bytes, str)):
                if self._sent_close is None:
                    self.messages_received += 1
                    if self._messages is None:
                        self._messages = deque()
                    self._messages.append(event)
            elif event is not None:
                self._handle(event)


def keep(buffers: list[BytesLike]) -> list[BytesLike]:
    """Return a frame in parts that stay what they are until they are sent."""
    if len(buffers) == 1:
        return buffers
    header, payload = buffers
    if not isinstance(payload, bytes):
        payload = bytes(payload)
    return coalesce([header, payload])


def check_close(code: int, reason: str) -> None:
    """Check what a close frame is to say, before anything is locked for it.

    :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
        encoded.
    :raises TypeError: ``reason`` is no text.
    """
    if code not in SENDABLE_CODES:
        raise ValueError(
            f"{code!r} is not a close code to send: 1000 to 1003, 1007 to 1014 and 3000 to 4999 "
            "are."
        )
    if not isinstance(reason, str):
        raise TypeError(f"A reason is a text, not {reason!r}: close(code, reason).")
    reason.encode()
