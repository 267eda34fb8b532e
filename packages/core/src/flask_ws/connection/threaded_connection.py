"""A connection of messages for a handler, or an event view, on a thread.

What :class:`~flask_ws.connection.connection.Connection` is where there are frames.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ..budget import STEP
from ..exceptions import ConnectionClosed
from ..protocol.frames import BytesLike
from ..protocol.messages import ServerMessages
from ..system import waitable
from ..whereabouts import Whereabouts
from .bell import Bell, Ringer, make_bell
from .endpoint import check_close
from .message_connection import MessageConnection
from .receiver import TURNS

__all__ = ["ThreadedConnection"]

#: Bytes that a thread may be ahead of the server. As with a socket, where the kernel's buffer is
#: larger, send() returns before the peer has read.
AHEAD = 2**16
#: Seconds after which a thread that waits for room looks again.
LOOK = 1.0
#: Seconds that the loop may take to end a connection, beyond ``close_timeout``.
GRACE = 1.0

#: What a reactor knows connections by that have no descriptor.
_numbers = itertools.count(-2, -1)


class ThreadedConnection(MessageConnection):
    """A connection on the server's loop, whose messages are for a thread.

    On the loop it is used as any other. The methods for the thread, such as :meth:`send`,
    :meth:`receive` and :meth:`close`, wait for the loop, or have it do something.

    :param server: the server's side of it.
    :param ringer: wakes the threads of its loop's connections.
    :param options: as for :class:`MessageConnection`.
    """

    __slots__ = (
        "_accepted",
        "_added",
        "_bell",
        "_closing",
        "_ended",
        "_in_receive",
        "_inbox",
        "_posted",
        "_ringer",
        "_room_made",
        "_sending",
        "_taken",
        "_turns",
        "cut_short",
        "linger_until",
        "when_arrived",
        "when_released",
        "work",
    )

    def __init__(self, server: ServerMessages, *, ringer: Ringer, **options: Any) -> None:
        super().__init__(server, **options)
        self.fd = next(_numbers)
        #: Where the handler is found, while one runs.
        self.work: Whereabouts | None = None
        # Messages for the thread; None marks the end. What the loop has added, less what it has
        # dropped, and what the thread has taken, in bytes of memory: each has one writer.
        self._inbox: SimpleQueue[str | bytes | None] = SimpleQueue()
        self._added = self._taken = 0
        # What wakes the thread; without it, the inbox does.
        self._bell: Bell | None = None
        self._ringer = ringer
        self._in_receive = False
        self._turns = 0
        # Held by the thread that sends. Bytes given to the loop, and those it has taken.
        self._sending = threading.Lock()
        self._posted = self._accepted = 0
        self._room_made: threading.Event | None = None
        # How a thread has begun to end it, before the loop knows; and what waits for the end.
        self._closing: tuple[int, str] | None = None
        self._ended: threading.Event | None = None
        #: Whether there may be more for an event view, but other connections come first.
        self.cut_short = False
        #: There is no time for the peer to read: the server closes the connection.
        self.linger_until: float | None = None
        #: Called on the loop with :attr:`fd` when something has come for an event view.
        self.when_arrived: Callable[[int], object] | None = None
        #: Called once the connection is closed, when it is released.
        self.when_released: Callable[[ThreadedConnection], object] | None = None

    @property
    def state(self) -> ThreadedConnection:
        """Whether it is open, and what has ended it: this object, which is in one part."""
        return self

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self.close_code is None and self._sent_close is None and self._closing is None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        number = self.fd
        super().connection_lost(exc)
        # A reactor still knows it by this.
        self.fd = number

    def _error(self) -> ConnectionClosed:
        if self.close_code is None and self._sent_close is None and self._closing is not None:
            return ConnectionClosed(*self._closing)
        return super()._error()

    # Receiving, on the loop

    def _has_room(self, times: int) -> bool:
        return (self._added - self._taken) * times < self._max_queue_bytes

    def _hand_on(self, message: str | bytes) -> None:
        self._added += sys.getsizeof(message)
        self._inbox.put(message)
        if (bell := self._bell) is not None:
            self._ringer.ring(bell)
        if self.when_arrived is not None:
            self.when_arrived(self.fd)
        held = self._added - self._taken
        if self._counted:
            self._count()
        elif held >= STEP:
            # Not at once: the thread may be about to take it.
            self._loop.call_soon(self._begin_to_count)
        if held >= self._max_queue_bytes:
            self._stop_reading()
            # The thread may have taken all of them before it could see that.
            self._loop.call_soon(self._take_turn)

    def _count_received(self) -> int:
        return self._added - self._taken

    def _begin_to_count(self) -> None:
        self._count()
        if self._counted:
            # The thread tells what it takes from here on; not what it took meanwhile.
            self._count()

    def _set_closed(self, code: int, reason: str) -> None:
        super()._set_closed(code, reason)
        self._inbox.put(None)
        if (bell := self._bell) is not None:
            bell.ring()
        if self.when_arrived is not None:
            self.when_arrived(self.fd)
        for event in (self._ended, self._room_made):
            if event is not None:
                event.set()

    def drop_messages(self) -> None:
        """Drop the messages that nobody is to receive any more."""
        end = False
        try:
            while True:
                message = self._inbox.get_nowait()
                if message is None:
                    end = True
                else:
                    self._added -= sys.getsizeof(message)
        except Empty:
            if end:
                self._inbox.put(None)
        self._take_turn()
        if self._counted:
            self._count()

    # Receiving, on the thread

    def _note_taken(self, message: str | bytes) -> None:
        self._taken += sys.getsizeof(message)
        if self._full and self._has_room(2):
            self._at_home(self._take_turn)
        elif self._counted:
            self._at_home(self._count)

    def receive(  # type: ignore[override]
        self, timeout: float | None = None
    ) -> str | bytes | None:
        """Receive the next message; one thread at a time. As :meth:`.Receiver.receive`."""
        if self._in_receive:
            raise RuntimeError(
                "Another thread is in receive() on this connection: let one thread receive and "
                "hand the messages on."
            )
        self._in_receive = True
        try:
            if timeout is not None:
                timeout = waitable(timeout)
            inbox = self._inbox
            until = None if timeout is None else time.monotonic() + timeout
            while True:
                if self.close_code is not None:
                    message = inbox.get_nowait()
                elif until is None:
                    # The handler may end meanwhile, if this is a thread of its own making.
                    bell = self._bell
                    if bell is None:
                        self._bell = make_bell()
                    elif inbox.empty():
                        bell.sleep(inbox.empty)
                    message = inbox.get()
                else:
                    message = inbox.get(timeout=max(0.0, until - time.monotonic()))
                if message is not None:
                    self._note_taken(message)
                    return message
        except Empty:
            if self.close_code is not None:
                raise self._error() from None
            return None
        finally:
            self._in_receive = False

    def next_message(self, *, read: bool | None = None, wait: bool = False) -> str | bytes | None:
        """Return the next message for an event view. As :meth:`.Receiver.next_message`."""
        self.cut_short = False
        if read is not None:
            self._turns = 0
        elif self._turns >= TURNS:
            self.cut_short = self.has_more
            return None
        inbox = self._inbox
        if not wait and inbox.empty():
            return None
        try:
            message = inbox.get() if wait else inbox.get_nowait()
            # After a view has closed the connection, it gets no more.
            while message is not None and self._closing is not None:
                self._note_taken(message)
                message = inbox.get_nowait()
        except Empty:
            return None
        self._turns += 1
        if message is not None:
            self._note_taken(message)
        return message

    @property
    def has_more(self) -> bool:
        """Whether another message may be waiting."""
        return not self._inbox.empty()

    @property
    def has_unread(self) -> bool:
        """Whether messages have come before the end that the event view has not been given."""
        return not self._inbox.empty()

    # Sending, on the thread

    def send(  # type: ignore[override]
        self, data: str | BytesLike, *, ping: bytes | None = None
    ) -> None:
        """Send a message; wait while the server has not taken the last ones.

        As :meth:`.Sender.send`; but a ping is not sent: the server sends them.
        """
        with self._sending:
            self._post(data, ping)
            while self._is_ahead():
                room = self._room_made = self._room_made or threading.Event()
                room.clear()
                if self.close_code is not None:
                    raise self._error()
                if self._is_ahead():
                    room.wait(LOOK)

    def send_nowait(self, data: str | BytesLike, *, ping: bytes | None = None) -> None:
        """Send a message without waiting. As :meth:`.Sender.send_nowait`."""
        with self._sending:
            self._post(data, ping, is_limited=True)

    def _post(self, data: str | BytesLike, ping: bytes | None, *, is_limited: bool = False) -> None:
        """Have the loop send a message; the caller holds the lock."""
        protocol: Any = self._protocol
        home: Any = self.home
        if ping is not None:
            protocol.send_ping(ping)
        message, size = protocol.take_message(data)
        # As `connected`, which would be one more call for each message.
        if not (self.close_code is None and self._sent_close is None and self._closing is None):
            raise self._error()
        if ping is None:
            self._posted += size
            home.post(functools.partial(self._accept, message, size, is_limited))

    def _is_ahead(self) -> bool:
        """Whether the loop and the server have more to do than they should."""
        outlet: Any = self._stream
        waiting = 0 if outlet is None else outlet.size
        return self._posted - self._accepted + waiting >= AHEAD

    def _accept(self, message: str | bytes, size: int, is_limited: bool) -> None:
        """Send what a thread has posted, on the loop."""
        self._accepted += size
        outlet: Any = self._stream
        # Nothing follows a close frame that was sent meanwhile.
        if self.close_code is None and self._sent_close is None:
            self.messages_sent += 1
            if outlet is not None:
                self._written += size
                outlet.write(message, size)
            if self._blocked:
                self._loop.call_soon(self._count)
                if is_limited:
                    self._overflow()
        if self._room_made is not None and not self._blocked:
            self._room_made.set()

    def resume_writing(self) -> None:
        """Let senders go on; called by the outlet."""
        super().resume_writing()
        if self._room_made is not None:
            self._room_made.set()

    # The end, on the thread

    def close(self, code: int, reason: str) -> None:  # type: ignore[override]
        """Close the connection with a closing handshake, and wait for the peer's answer."""
        check_close(code, reason)
        if self.close_code is None:
            ended = self._ended = self._ended or threading.Event()
            self._begin(code, reason)
            if self.close_code is None:
                ended.wait(self._close_timeout + GRACE)

    def close_nowait(self, code: int, reason: str) -> None:
        """Send a close frame and drop what arrives; the connection ends with the peer's answer."""
        self._begin(code, reason)

    def _begin(self, code: int, reason: str) -> None:
        self._closing = self._closing or (code, reason)
        self.dismiss(code, reason)

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (section 7.1.7); any thread may call it."""
        self._closing = self._closing or (code, reason)
        super().fail(code, reason)

    def _release(self) -> None:
        self.drop_messages()
        super()._release()

    def release(self) -> None:
        """Let go of the connection: what ran on it has ended."""
        # Its descriptor is not to wait for whoever still holds the connection.
        self._bell = None
        self.lose("the connection was dropped")
        if self.when_released is not None:
            self.when_released(self)
        super().release()
