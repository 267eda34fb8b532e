"""Receiving on an asyncio loop: frames, the queue of messages, and how the peer ends a connection.

What :class:`~flask_ws.connection.receiver.Receiver` is for threads.
"""

from __future__ import annotations

import _socket
import asyncio
import functools
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from ..protocol.close_codes import MESSAGE_TOO_BIG, TRY_AGAIN_LATER
from ..protocol.events import Close, Event, Ping, Violation
from ..protocol.protocol import Protocol
from ..system import DONTWAIT, has_gone
from .async_sending import AsyncSending
from .reader import NO_CLOSE_FRAME
from .receiver import EVENT, TURNS
from .transport import MOST_UNREAD
from .writer import TOO_MUCH_HELD

__all__ = ["AsyncReceiving"]

T = TypeVar("T")

logger = logging.getLogger("flask_ws")

#: Seconds that the answer to a close frame waits for a handler that has not received all messages
#: yet: its answers to these must be sent first.
MOMENT = 0.4
#: Receives without waiting, and leaves it there.
PEEK = socket.MSG_PEEK | DONTWAIT
#: Given to a waiting receiver in place of a message when the time is up.
TIME_IS_UP = object()


class AsyncReceiving(AsyncSending):
    """The receiving half of a connection on an asyncio loop; also the sending one.

    :param protocol: the WebSocket protocol.
    :param max_queue: messages that are queued while nobody receives.
    :param max_queue_bytes: bytes of memory that these may take; the last one may exceed it.
    :param options: as for :class:`AsyncSending`.
    """

    __slots__ = (
        "_full",
        "_given_up",
        "_looking",
        "_max_queue",
        "_max_queue_bytes",
        "_messages",
        "_pending",
        "_queued",
        "_receiver",
        "_turns",
        "bytes_received",
        "fd",
        "messages_received",
    )

    def __init__(
        self, protocol: Protocol, *, max_queue: int, max_queue_bytes: int, **options: Any
    ) -> None:
        super().__init__(protocol, **options)
        self._max_queue = max_queue
        self._max_queue_bytes = max_queue_bytes
        # The task that waits in receive(), the queue, and the memory that its messages take.
        self._receiver: asyncio.Future[Any] | None = None
        self._messages: deque[str | bytes] | None = None
        self._queued = 0
        # Messages that were received without waiting.
        self._turns = 0
        # Whether reading has stopped, because the queue is full or others have their turn; and
        # whether a timer is set that looks for the peer meanwhile.
        self._full = False
        self._looking = False
        # What ends the connection when the messages before it have been taken.
        self._pending: tuple[Callable[[], object], asyncio.TimerHandle] | None = None
        self._given_up = False
        protocol.meter = self._meter
        #: The descriptor of the socket, as long as it is open.
        self.fd = -1
        #: Messages and bytes so far.
        self.messages_received = 0
        self.bytes_received = 0

    # From the transport

    def data_received(self, data: bytes) -> None:
        """Hand messages on, and answer other frames; called by the transport."""
        self.bytes_received += len(data)
        if self.close_code is not None:
            # Only the end of the stream is awaited.
            return
        protocol = self._protocol
        if self._full:
            protocol.receive_data(data)
        else:
            event, receiver = protocol.next_event(data), self._receiver
            if (
                receiver is not None
                and protocol.drained
                and (type(event) is bytes or type(event) is str)
                and self._sent_close is None
            ):
                # As _take() does. This is the usual case, where a call would cost more.
                try:
                    receiver.set_result(event)
                except asyncio.InvalidStateError:
                    # It has a message already, or was cancelled.
                    self._take(event)
                else:
                    self.messages_received += 1
                    if not self._counted:
                        return
            else:
                self._take(event)
        if self._messages or self._counted or protocol.partial is not None:
            self._count()

    def eof_received(self) -> bool:
        """Note that the peer has ended the stream; called by the transport."""
        if self.close_code is not None:
            return False
        self._end_after_messages(functools.partial(self._lose, NO_CLOSE_FRAME))
        # The transport is closed when the connection ends.
        return True

    def _take(self, event: Event | None) -> None:
        """Process this event, and those that follow it, until the queue is full or others wait."""
        protocol, turns = self._protocol, 0
        while event is not None:
            if type(event) is bytes or type(event) is str:
                if self._sent_close is None:
                    self.messages_received += 1
                    receiver = self._receiver
                    if receiver is not None and not receiver.done():
                        receiver.set_result(event)
                    elif self._keep(event):
                        return
            else:
                self._handle(event)
                if self.close_code is not None:
                    return
                turns += EVENT
            if protocol.drained:
                return
            if turns >= TURNS:
                # Other connections have their turn, too.
                self._stop_reading()
                self._loop.call_soon(self._take_turn)
                return
            event = protocol.next_event()

    def _stop_reading(self) -> None:
        self._full = True
        if self._stream is not None:
            self._stream.pause_reading()

    def _take_turn(self) -> None:
        """Go on with what has arrived, unless the queue is full meanwhile."""
        if self._full and self._has_room(1):
            self._go_on_reading()
            if self._messages or self._counted or self._protocol.partial is not None:
                self._count()

    def _has_room(self, times: int) -> bool:
        """Tell whether the queue has room for so many times what is in it, or at least for one."""
        return (
            len(self._messages or ()) * times < self._max_queue
            and self._queued * times < self._max_queue_bytes
        )

    def _keep(self, message: str | bytes) -> bool:
        """Queue a message; whether the queue is full now."""
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        self._queued += sys.getsizeof(message)
        if self._has_room(1):
            return False
        self._stop_reading()
        if not self._looking:
            self._looking = True
            self._loop.call_later(MOMENT, self._look_for_peer)
        return True

    def _look_for_peer(self) -> None:
        """See whether the peer has gone, while nothing is read."""
        self._looking = False
        if self._full and self.close_code is None:
            if self._ask_socket(has_gone, True):
                self._lose(NO_CLOSE_FRAME)
            else:
                self._looking = True
                self._loop.call_later(MOMENT, self._look_for_peer)

    def _ask_socket(self, ask: Callable[[_socket.socket], T], otherwise: T) -> T:
        if self.fd < 0:
            return otherwise
        sock = None
        try:
            sock = _socket.socket(fileno=self.fd)
            return ask(sock)
        except OSError:
            return otherwise
        finally:
            if sock is not None:
                sock.detach()

    def _count_unread(self) -> int:
        """Return how many bytes the kernel holds, as far as the connection does not read them."""
        if not self._full:
            return 0
        return len(self._ask_socket(lambda sock: sock.recv(MOST_UNREAD, PEEK), b""))

    def _handle(self, event: Event) -> None:
        """Do what an event other than a message asks for."""
        if isinstance(event, Ping):
            # A peer that sends pings and does not read gets no pongs: a pong for each ping is not
            # required (section 5.5.3).
            if self._sent_close is None and not self._blocked:
                self._write(self._protocol.send_pong(event.payload))
        elif isinstance(event, Close):
            self._end_after_messages(functools.partial(self._answer_close, event))
        elif isinstance(event, Violation):
            setting = " (SOCK_MAX_MESSAGE_SIZE)" if event.code == MESSAGE_TOO_BIG else ""
            logger.warning(
                "%s: the peer is at fault: %s %s%s", self.label, event.code, event.reason, setting
            )
            # What the handler sends in answer to the messages before it goes out first.
            self._end_after_messages(functools.partial(self._fail, event.code, event.reason))

    # Messages

    async def receive(self, timeout: float | None = None, iterating: bool = False) -> Any:
        """Receive the next message; one task at a time.

        :param timeout: seconds to wait for it; 0 takes what is there; ``None`` waits for as long
            as the connection lives.
        :param iterating: whether the connection's end is the end of an iteration, and not an error.
        :return: ``None`` when the time is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises RuntimeError: another task is in ``receive()`` already.
        """
        if self._receiver is not None:
            raise RuntimeError(
                "Another task is in receive() on this connection: let one task receive and hand "
                "the messages on."
            )
        if self._messages:
            self._turns += 1
            if self._turns % TURNS == 0:
                # Other connections have their turn, too.
                await asyncio.sleep(0)
            if self._messages:
                return self._next_message()
        if self._pending is not None:
            self._end_now()
        if self.close_code is None:
            if timeout is not None and timeout <= 0:
                return await self._look()
            # Not a coroutine of its own: most connections are idle, and each would keep one more.
            receiver = self._receiver = asyncio.Future(loop=self._loop)
            if timeout is not None:
                timer = self._loop.call_later(timeout, _resolve, receiver, TIME_IS_UP)
            try:
                message = await receiver
            except asyncio.CancelledError:
                self._put_back(receiver)
                raise
            finally:
                self._receiver = None
                if timeout is not None:
                    timer.cancel()
            if message is TIME_IS_UP:
                return None
            if message is not None:
                return message
        if iterating:
            raise StopAsyncIteration
        raise self._error()

    def _put_back(self, receiver: asyncio.Future[Any]) -> None:
        """Keep a message for the next call that came as its receiver was cancelled."""
        message = None if receiver.cancelled() else receiver.result()
        if isinstance(message, (str, bytes)):
            self._messages = self._messages or deque()
            self._messages.appendleft(message)
            self._queued += sys.getsizeof(message)

    async def _look(self) -> str | bytes | None:
        """Return a message that has arrived, also where the loop has not read it yet."""
        for _ in range(2):
            await asyncio.sleep(0)
            if self._messages:
                return self._next_message()
        self._end_now()
        if self.close_code is not None:
            raise self._error()
        return None

    def _next_message(self) -> str | bytes:
        assert self._messages is not None
        message = self._messages.popleft()
        self._queued -= sys.getsizeof(message)
        if self._full and self._has_room(2):
            self._go_on_reading()
        if self._counted:
            self._count()
        return message

    def _go_on_reading(self) -> None:
        self._full = False
        if self.close_code is None and not self._protocol.drained:
            self._take(self._protocol.next_event())
        if not self._full and self._stream is not None:
            self._stream.resume_reading()

    def drop_messages(self) -> None:
        """Drop the messages that nobody is to receive any more."""
        self._messages = None
        self._queued = 0
        if self._counted:
            self._count()

    # The end, by the peer

    def _answer_close(self, close: Close) -> None:
        self._set_closed(close.code, close.reason)
        if self._sent_close is None:
            self._send_close(close.code, close.reason)
        if self._stream is not None:
            self._set_deadline(self._stream.abort)
            self._stream.close()

    def _end_after_messages(self, function: Callable[[], object]) -> None:
        """Call what ends the connection when the messages before it have been taken, or soon."""
        waits = self._receiver is not None and not self._receiver.done()
        if waits or self._sent_close is not None:
            function()
        elif self._pending is None:
            self._pending = function, self._loop.call_later(MOMENT, self._end_now)

    def _end_now(self) -> None:
        if self._pending is not None:
            (function, timer), self._pending = self._pending, None
            timer.cancel()
            if self.close_code is None:
                function()

    def _set_closed(self, code: int, reason: str) -> None:
        super()._set_closed(code, reason)
        if self._receiver is not None:
            _resolve(self._receiver, None)

    # The memory that it takes

    @property
    def is_mid_message(self) -> bool:
        """Whether a message, or a frame, has begun and is awaited."""
        protocol = self._protocol
        return (protocol.partial is not None or not protocol.drained) and not self._full

    def _count_received(self) -> int:
        return super()._count_received() + self._queued

    def _meter(self) -> bool:
        """Count what is held; ``False`` where it is to be given up."""
        self._count()
        return not self._given_up

    def let_go(self) -> int:
        """End the connection, and free what is held; called at home.

        :return: the close code.
        """
        code = MESSAGE_TOO_BIG if self._protocol.held > self._queued else TRY_AGAIN_LATER
        self._fail(code, TOO_MUCH_HELD)
        self._give_up()
        if self._blocked and self._stream is not None:
            # What is queued for a slow reader is dropped, and the close frame with it.
            self._stream.abort()
        return code

    def _give_up(self) -> None:
        """Drop what has arrived and has not been received."""
        self._given_up = True
        self.drop_messages()
        self._protocol.give_up()
        self._count()


def _resolve(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)
