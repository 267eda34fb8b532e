"""Reading: who reads the socket of a connection, and what has arrived and was not received."""

from __future__ import annotations

import logging
import sys
from collections import deque

from ..budget import STEP, budget
from ..concurrency import Concurrency, HomeThread
from ..protocol.close_codes import MESSAGE_TOO_BIG, TRY_AGAIN_LATER
from ..protocol.events import Close, Event, Ping, Violation
from ..protocol.protocol import Protocol
from .locks import attempts, is_held
from .sender import Sender
from .state import State
from .transport import Transport
from .writer import TOO_MUCH_HELD

__all__ = ["NO_CLOSE_FRAME", "Reader"]

logger = logging.getLogger("flask_ws")

NO_CLOSE_FRAME = "the connection was lost without a close frame"
INTERRUPTED = "an exception came while a message was being read"


class Reader:
    """The lower part of the receiving half of a connection: the socket, frames, and the queue.

    :param state: the connection's state.
    :param sender: the sending half of the connection.
    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param home: the one thread in which they work, if any.
    :param max_queue: messages that may wait while nobody receives.
    :param max_queue_bytes: bytes of memory that these may take; the last one may exceed it.
    """

    __slots__ = (
        "_counted",
        "_faults",
        "_let_go",
        "_max_queue",
        "_max_queue_bytes",
        "_messages",
        "_protocol",
        "_queued",
        "_receiving",
        "_sender",
        "_state",
        "_transport",
        "_unread",
        "bytes_received",
        "home",
        "messages_received",
        "reading",
    )

    def __init__(
        self,
        state: State,
        sender: Sender,
        transport: Transport,
        protocol: Protocol,
        *,
        concurrency: Concurrency,
        home: HomeThread | None,
        max_queue: int,
        max_queue_bytes: int,
    ) -> None:
        self._state = state
        self._sender = sender
        self._transport = transport
        self._protocol = protocol
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        # Whether a caller of receive() holds the lock.
        self._receiving = False
        self._messages: deque[str | bytes] | None = None
        # The bytes that these take; the bytes that the budget knows of, with those of unfinished
        # messages; and whether all of them are to be dropped.
        self._queued = 0
        self._counted = 0
        self._let_go = False
        protocol.meter = self._meter
        # What is to be logged about the peer by whoever reads, without the lock.
        self._faults: list[Violation] = []
        # Whether the connection was lost while something waited to be read.
        self._unread = False
        #: The one thread in which its primitives work; ``None`` if any thread may use them.
        self.home = home
        #: Held by the thread that reads the socket.
        self.reading = concurrency.lock()
        #: Messages and bytes so far.
        self.messages_received = 0
        self.bytes_received = 0

    @property
    def label(self) -> str:
        """The name of the connection in logs."""
        return self._sender.label

    @property
    def is_reading(self) -> bool:
        """Whether a thread is reading now: what has arrived may not be counted yet."""
        return self._receiving or is_held(self.reading)

    def feed(self, data: bytes) -> None:
        """Add what was received along with the handshake."""
        self._protocol.receive_data(data)
        self.bytes_received += len(data)

    # The socket

    def _read(self, timeout: float | None) -> Event | None:
        """Read once, and return the next event, if there is one.

        :param timeout: seconds to wait for something to read; ``None`` for ever.
        :raises TimeoutError: the time is up.
        """
        protocol = self._protocol
        partial = protocol.partial
        if partial is not None or self._counted:
            if partial is not None:
                partial.make_room()
            if not self._meter():
                return None
        data = b""
        try:
            buffer = None if partial is None else partial.get_buffer()
            if buffer is None:
                data = self._transport.recv(timeout)
                size = len(data)
            else:
                # Released in any case: a stored exception keeps this stack frame alive, and a
                # buffer with a view of it cannot grow.
                with buffer:
                    size = self._transport.recv_into(buffer, timeout)
        except TimeoutError as error:
            # The socket's own timeout, as for keepalive probes, is an error like any other.
            if error.errno is None and timeout is not None:
                raise
            size = 0
        except (OSError, ValueError):
            size = 0
        if not size:
            self._state.lose(NO_CLOSE_FRAME)
            return None
        self.bytes_received += size
        try:
            if partial is not None:
                protocol.buffer_updated(size)
            return protocol.next_event(data)
        except BaseException:
            # The data may have been processed in part.
            self._state.lose(INTERRUPTED)
            raise

    def _handle(self, event: Event) -> None:
        """Act on an event other than a message."""
        if isinstance(event, Ping):
            self._sender.answer_ping(event.payload)
        elif isinstance(event, Close):
            self._sender.answer_close(event.code, event.reason)
        elif isinstance(event, Violation):
            self._faults.append(event)
            self._sender.fail(event.code, event.reason)

    def tell_faults(self) -> None:
        """Log what the peer did wrong; not while reading: a log handler may use the connection."""
        while self._faults:
            try:
                event = self._faults.pop()
            except IndexError:
                # Another thread has just done it.
                return
            setting = " (SOCK_MAX_MESSAGE_SIZE)" if event.code == MESSAGE_TOO_BIG else ""
            logger.warning(
                "%s: the peer is at fault: %s %s%s",
                self._sender.label,
                event.code,
                event.reason,
                setting,
            )

    # Messages that wait

    @property
    def is_backed_up(self) -> bool:
        """Whether reading has stopped because the queue is full (backpressure)."""
        return self._messages is not None and (
            len(self._messages) >= self._max_queue or self._queued >= self._max_queue_bytes
        )

    @property
    def is_mid_message(self) -> bool:
        """Whether a part of a message or a frame has arrived, and the rest is awaited."""
        protocol = self._protocol
        return (protocol.partial is not None or not protocol.drained) and not self.is_backed_up

    def _take_queued(self) -> str | bytes:
        assert self._messages is not None
        message = self._messages.popleft()
        self._queued -= sys.getsizeof(message)
        if self._counted:
            self._count()
        return message

    # The memory that they take

    def _count(self) -> None:
        """Tell the budget how much is held; called by the thread that reads."""
        if self._let_go:
            self.clear()
        held = self._queued + self._protocol.held
        change = (held if held >= STEP else 0) - self._counted
        if not -STEP < change < STEP:
            self._counted += change
            budget.change(self, change)

    def _meter(self) -> bool:
        """Count what is held; ``False`` where it is to be dropped."""
        self._count()
        return not self._let_go

    def clear(self) -> None:
        """Drop what has arrived and was not received; called by the thread that reads."""
        self._messages = None
        self._queued = 0
        self._unread = False
        self._protocol.give_up()
        # This breaks a reference cycle, which would wait for the garbage collector.
        self._protocol.meter = None
        if self._counted:
            budget.change(self, -self._counted)
            self._counted = 0

    def let_go(self) -> int:
        """End the connection, and drop what is held for it: the process holds too much."""
        code = MESSAGE_TOO_BIG if self._protocol.held > self._queued else TRY_AGAIN_LATER
        self.fail(code, TOO_MUCH_HELD)
        return code

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection, even while a thread reads, and drop what has arrived."""
        self._let_go = True
        self._sender.fail(code, reason)
        held = False
        try:
            for held in attempts(self.reading):
                break
            if held:
                self.clear()
            else:
                # The thread that reads wakes up, and does it.
                self._transport.stop_reading()
        finally:
            if held:
                self.reading.release()
