"""One open WebSocket connection: its parts, and the calls for the code that drives it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from ..budget import STEP, budget
from ..concurrency import Concurrency
from ..label import Label
from ..protocol.protocol import Protocol
from ..whereabouts import Whereabouts
from .receiver import Receiver
from .sender import Sender
from .state import CallAt, State
from .transport import Transport

__all__ = ["Connection"]

UNNAMED = Label("WebSocket")


class Connection:
    """An endpoint of a WebSocket connection, server or client, for the code that drives it.

    What an app calls is :class:`~.endpoint.Endpoint`, which holds one of these.

    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param close_timeout: seconds that a closing handshake may take.
    :param max_queue: messages that are queued while nobody receives.
    :param max_queue_bytes: bytes of memory that these may take.
    :param max_outbox: bytes sent without waiting that may be queued until the peer reads them.
    :param label: the name of the connection in logs.
    :param call_at: calls a function at a given time; needed where nobody waits for the
        connection to end, as with event views, and by :meth:`dismiss`.
    """

    __slots__ = (
        "_heard",
        "_request_size",
        "_transport",
        "at_work",
        "busy",
        "concurrency",
        "fd",
        "home",
        "label",
        "receiver",
        "sender",
        "state",
        "when_released",
        "work",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        *,
        concurrency: Concurrency,
        close_timeout: float,
        max_queue: int,
        max_queue_bytes: int = 2**20,
        max_outbox: int = 2**20,
        label: Label = UNNAMED,
        call_at: CallAt | None = None,
    ) -> None:
        self._transport = transport
        #: The primitives that go with the socket.
        self.concurrency = concurrency
        #: The one thread in which they work; ``None`` if any thread may use them.
        self.home = home = concurrency.home()
        #: Whether it is open, and what has ended it.
        self.state = State(transport, close_timeout, call_at)
        #: Sends frames.
        self.sender = Sender(
            self.state,
            transport,
            protocol,
            concurrency=concurrency,
            home=home,
            max_outbox=max_outbox,
            label=label,
        )
        #: Receives frames.
        self.receiver = Receiver(
            self.state,
            self.sender,
            transport,
            protocol,
            concurrency=concurrency,
            home=home,
            max_queue=max_queue,
            max_queue_bytes=max_queue_bytes,
        )
        # The peer's close frame may be waiting to be read.
        self.sender.when_failed = self.receiver.look
        #: The name of the connection in logs.
        self.label = label
        #: The file descriptor.
        self.fd = transport.fd
        #: When the handler, or a method of an event view, has begun; 0 if none is running.
        self.at_work = 0.0
        #: Where the handler is found, while one runs.
        self.work: Whereabouts | None = None
        #: Seconds for which methods of an event view have run.
        self.busy = 0.0
        #: Called once the connection is closed, when it is released.
        self.when_released: Callable[[Connection], object] | None = None
        # Bytes that had arrived when the last ping was sent, read or not.
        self._heard = 0
        # Bytes of memory that the request takes; 0 if too few to count.
        self._request_size = 0

    def begin(self, head: bytes, early: bytes, request_size: int = 0) -> None:
        """Send the answer to the handshake.

        :param head: the answer.
        :param early: what was received along with the handshake.
        :param request_size: bytes of memory that the request takes as long as the connection lives.
        """
        if request_size >= STEP:
            self._request_size = request_size
            budget.change(self.receiver, request_size)
        if early:
            self.receiver.feed(early)
        try:
            self._transport.send([head])
        except (OSError, ValueError):
            self.state.lose("the connection was lost before the handshake was answered")

    # State

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self.state.connected

    def check_connected(self) -> None:
        """Check that messages can be sent.

        :raises ConnectionClosed: they cannot.
        """
        if not self.state.connected:
            raise self.state.error()

    @property
    def close_code(self) -> int | None:
        """The close code, once the connection is closed."""
        return self.state.close_code

    @property
    def close_reason(self) -> str:
        """The reason that came with it."""
        return self.state.close_reason

    # Closing; the package's docstring has a table of who calls which

    def close(self, code: int, reason: str) -> None:
        """Close the connection with a closing handshake, and wait for the peer's answer."""
        home = self.home
        if home is not None and not home.catch_up():
            home.call(functools.partial(self.close, code, reason), self.concurrency)
            return
        state = self.state
        if state.close_code is not None:
            return
        deadline = time.monotonic() + state.close_timeout
        if self.sender.send_close(code, reason):
            self.receiver.await_close(deadline)
            state.lose("the peer did not answer the close frame")
        else:
            state.lose("no room for a close frame within close_timeout")

    def close_nowait(self, code: int, reason: str) -> None:
        """Send a close frame and drop what arrives; the connection ends with the peer's answer."""
        home = self.home
        if home is not None and not home.catch_up():
            home.call(functools.partial(self.close_nowait, code, reason), self.concurrency)
            return
        self._close_nowait(code, reason)

    def dismiss(self, code: int, reason: str) -> None:
        """Do the same for any kind of handler; any thread may call this, and it waits for none."""
        if self.home is None:
            self._close_nowait(code, reason)
        else:
            self.home.run(functools.partial(self._close_nowait, code, reason))

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function after some seconds, if the process has connections then.

        :param function: must not wait or raise; it may be called half a second late.
        """
        self.state.call_at(time.monotonic() + seconds, function)

    def _close_nowait(self, code: int, reason: str) -> None:
        state = self.state
        if not state.connected:
            return
        self.receiver.dropping = True
        self.sender.send_close_nowait(code, reason)
        state.call_at(
            time.monotonic() + state.close_timeout,
            lambda: state.lose("the peer did not answer the close frame"),
        )

    def go_away(self, code: int, reason: str) -> None:
        """Send a close frame without waiting; messages that have arrived are still received."""
        if self.state.close_code is None:
            self.sender.send_close_nowait(code, reason)

    def note_stop(self) -> None:
        """Do nothing: a thread ends when it will."""

    def cancel_work(self) -> None:
        """Do nothing: a thread cannot be cancelled."""

    def lose(self, reason: str) -> None:
        """Count the connection as lost, unless it is closed already, and wake waiting threads."""
        self.state.lose(reason)

    def release(self) -> None:
        """Close the socket. The connection is closed; other threads get :exc:`ConnectionClosed`."""
        state, sender, receiver = self.state, self.sender, self.receiver
        state.lose("the connection was dropped")
        if self.when_released is not None:
            self.when_released(self)
        if state.linger_until is not None and not state.released:
            # The close frame, and the message that it may wait behind, are sent first.
            sender.drain(state.linger_until)
            if not state.peer_closed:
                receiver.await_end(state.linger_until)
        # A thread blocked on the socket must return before the file descriptor is reused.
        self._transport.abort()
        with receiver.reading, sender.writing:
            if not state.released:
                state.released = True
                sender.clear()
                receiver.clear()
                if self._request_size:
                    budget.change(receiver, -self._request_size)
                self._transport.close()
        receiver.tell_faults()
        # This breaks a reference cycle, which would wait for the garbage collector.
        sender.when_failed = None

    # For the monitor

    @property
    def needs_service(self) -> bool:
        """Whether :meth:`service` is to be called now and then."""
        return self.receiver.needs_service

    def service(self) -> None:
        """Flush the outbox, and read what has arrived while nobody receives; never waits."""
        linger_until = self.state.linger_until
        if linger_until is not None and time.monotonic() >= linger_until:
            # A sender may be blocked by a peer that has closed, or was told to.
            self._transport.abort()
            return
        self.sender.flush()
        self.receiver.service()

    def post_ping(self) -> None:
        """Send a ping without waiting."""
        self._heard = self.receiver.bytes_received + self._transport.count_unread()
        self.sender.post_ping()

    @property
    def has_been_heard(self) -> bool:
        """Whether anything has come since the last ping, though perhaps nobody has read it yet."""
        unread = self._transport.count_unread()
        if self.receiver.bytes_received + unread != self._heard:
            return True
        if not self.receiver.is_backed_up:
            # No thread has read it yet.
            return unread > 0
        # Backpressure may have kept the peer from answering. Then it is enough that its system has
        # acknowledged the ping.
        return self._transport.holds_up_peer(unread) and self._transport.is_acknowledged()

    @property
    def is_reading(self) -> bool:
        """Whether a thread is reading now: what has arrived may not be counted yet."""
        return self.receiver.is_reading

    @property
    def bytes_received(self) -> int:
        """Bytes received so far."""
        return self.receiver.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far."""
        return self._transport.sent

    @property
    def counts(self) -> tuple[int, int, int, int, int, float]:
        """Messages in and out, bytes in and out, bytes that wait, and seconds in callbacks."""
        receiver, sender = self.receiver, self.sender
        return (
            receiver.messages_received,
            sender.messages_sent,
            receiver.bytes_received,
            self._transport.sent,
            sender.waiting,
            self.busy,
        )

    @property
    def is_sending(self) -> bool:
        """Whether something is being sent, so that a ping would have to wait behind it."""
        return self.sender.is_sending
