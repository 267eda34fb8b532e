"""One open WebSocket connection: a sender, who may receive when, and the closing handshake."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import overload

from ..concurrency import Concurrency
from ..exceptions import ConnectionClosed
from ..protocol.events import MESSAGE_TOO_BIG, Close, Event, Ping, Violation
from ..protocol.frames import BytesLike
from ..protocol.protocol import Protocol
from .sender import Sender
from .transport import Transport

__all__ = ["NORMAL_CLOSURE", "Connection", "check_close"]

logger = logging.getLogger("flask_ws")

NORMAL_CLOSURE = 1000

NO_CLOSE_FRAME = "the connection was lost without a close frame"

#: Bytes that wait, past which pings are not answered.
PONG_LIMIT = 2**16

#: Close codes that an endpoint may send (RFC 6455 section 7.4; 1012 to 1014 by IANA's registry).
SENDABLE_CODES = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})


class Connection(Sender):
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
        "_max_queue",
        "_messages",
        "_pong",
        "_reading",
        "at_work",
        "bytes_received",
        "messages_received",
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
        super().__init__(
            transport,
            protocol,
            concurrency=concurrency,
            close_timeout=close_timeout,
            max_outbox=max_outbox,
            label=label,
        )
        self._max_queue = max_queue
        # Held by whoever reads the socket; and whether that is a caller of receive().
        self._reading = concurrency.lock()
        self._attended = False
        self._messages: deque[str | bytes] | None = None
        # The last pong that was put into the outbox.
        self._pong: BytesLike | None = None
        #: Whether a handler, or a method of an event view, is running.
        self.at_work = False
        #: Messages and bytes so far.
        self.messages_received = 0
        self.bytes_received = 0

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

    def _read(self, timeout: float | None) -> Event | None:
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

    def _handle(self, event: Event) -> None:
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

    def _explain_loss(self) -> None:
        """After a send that failed: the peer's close frame may be waiting to be read."""
        if self._reading.acquire(False):
            try:
                self._pump()
            finally:
                self._reading.release()
        super()._explain_loss()

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
