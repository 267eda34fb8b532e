"""One open WebSocket connection on an asyncio loop.

What :class:`~flask_ws.connection.connection.Connection` is for threads.
"""

from __future__ import annotations

import asyncio
import functools
import operator
import socket
from collections.abc import Callable
from typing import TypeAlias

from ..concurrency import Concurrency, HomeThread
from ..label import Label
from ..protocol.protocol import Protocol
from ..system import count_unacknowledged
from ..whereabouts import Whereabouts
from .async_receiving import AsyncReceiving
from .async_state import Stream
from .connection import UNNAMED, Connection
from .endpoint import check_close
from .reader import NO_CLOSE_FRAME
from .transport import holds_up_peer
from .writer import LOST_WHILE_SENDING

__all__ = ["AnyConnection", "AsyncConnection"]

#: Ends the stream in both directions, whoever else has a descriptor of the socket.
SHUT_DOWN = operator.methodcaller("shutdown", socket.SHUT_RDWR)


class AsyncConnection(AsyncReceiving):
    """A server's or a client's endpoint of a WebSocket connection on an asyncio loop.

    It is the protocol of the loop's transport.

    :param protocol: the WebSocket protocol.
    :param loop: the loop.
    :param home: the loop's thread; ``None`` if only the loop's own tasks use the connection.
    :param concurrency: names the primitives of the loop's thread.
    :param close_timeout: seconds that a closing handshake may take.
    :param max_queue: messages that are queued while nobody receives.
    :param max_queue_bytes: bytes of memory that these may take; the last one may exceed it.
    :param max_outbox: bytes sent without waiting that may be queued until the peer reads them.
    :param label: the name of the connection in logs.
    """

    #: Whether the monitor is to call :meth:`service` now and then: the loop does everything.
    needs_service = False
    #: Where the handler is found; an async one that goes on after the end is cancelled.
    work: Whereabouts | None = None
    #: Whether a thread reads just now, which may not have counted yet what has arrived.
    is_reading = False

    __slots__ = ("__weakref__", "_early", "_head", "_heard", "at_work", "busy", "server_stops")

    def __init__(
        self,
        protocol: Protocol,
        *,
        loop: asyncio.AbstractEventLoop,
        home: HomeThread | None,
        concurrency: Concurrency,
        close_timeout: float,
        max_queue: int,
        max_queue_bytes: int = 2**20,
        max_outbox: int = 2**20,
        label: Label = UNNAMED,
    ) -> None:
        super().__init__(
            protocol,
            loop=loop,
            home=home,
            concurrency=concurrency,
            close_timeout=close_timeout,
            max_queue=max_queue,
            max_queue_bytes=max_queue_bytes,
            max_outbox=max_outbox,
            label=label,
        )
        self._head = self._early = b""
        # How much had arrived when a ping was sent, read or not.
        self._heard = 0
        #: When the handler, or a method of an event view, has begun; 0 if none is running.
        self.at_work = 0.0
        #: Seconds for which methods of an event view have run, and waited.
        self.busy = 0.0
        #: Whether the server stops.
        self.server_stops = False

    @property
    def sender(self) -> AsyncConnection:
        """The sending half: this object, which is in one part."""
        return self

    @property
    def receiver(self) -> AsyncConnection:
        """The receiving half."""
        return self

    def begin(self, head: bytes, early: bytes, request_size: int = 0) -> None:
        """Set what is sent first; to be called before there is a transport.

        :param head: what is sent: the answer to a handshake.
        :param early: what was received along with the handshake.
        :param request_size: bytes of memory that the request takes as long as the connection lives.
        """
        self._head, self._early = head, early
        self._request_size = request_size

    def connection_made(self, transport: Stream) -> None:  # type: ignore[override]
        """Answer the handshake; called by the transport."""
        self._stream = transport
        if self.close_code is not None:
            transport.abort()
            return
        head, early = self._head, self._early
        self._head = self._early = b""
        if head:
            self._write([head])
        if early:
            self.data_received(early)
        if self._request_size:
            self._count()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection; called by the transport, before it closes its socket."""
        self._lose(NO_CLOSE_FRAME if exc is None else LOST_WHILE_SENDING)
        self._stream = None
        self._held = None
        # A process that the app has forked may hold the socket open.
        self._ask_socket(SHUT_DOWN, None)
        self.fd = -1
        self.released = True
        self.resume_writing()
        # The two refer to each other, and would wait for the garbage collector.
        self._protocol.meter = None
        self._request_size = 0
        self._count()
        self._set_deadline(None)
        self._end_now()
        if self.owner is not None:
            self.owner.on_released(self)

    # Closing

    async def close(self, code: int, reason: str) -> None:
        """Close the connection with a closing handshake (RFC 6455 section 7).

        Waits up to ``close_timeout`` seconds for the peer's answer, and drops what it sends
        before that. Does nothing on a closed connection. When it is cancelled, the closing
        handshake goes on.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        check_close(code, reason)
        # What is queued is dropped, as is what arrives before the answer.
        self.drop_messages()
        self._begin_close(code, reason)
        while self.close_code is None:
            if self._ending is None:
                self._ending = []
            await self._wait_among(self._ending)

    def _begin_close(self, code: int, reason: str) -> None:
        self._end_now()
        if self.close_code is not None or self._sent_close is not None:
            return
        self._send_close(code, reason)
        self._set_deadline(functools.partial(self._lose, "the peer did not answer the close frame"))
        if self._full:
            # Reading goes on: what arrives before the answer is dropped.
            self._go_on_reading()

    def release(self) -> None:
        """Do nothing: the loop has closed the socket."""

    # For the monitor and others, in threads of their own

    @property
    def counts(self) -> tuple[int, int, int, int, int, float]:
        """Messages in and out, bytes in and out, bytes that wait, and seconds in callbacks."""
        stream = self._stream
        waiting = 0 if stream is None else stream.get_write_buffer_size()
        return (
            self.messages_received,
            self.messages_sent,
            self.bytes_received,
            self._written - waiting,
            waiting,
            self.busy,
        )

    @property
    def has_been_heard(self) -> bool:
        """Whether anything has arrived since the last ping, though it may not be read yet."""
        unread = self._count_unread()
        if self.bytes_received + unread != self._heard:
            return True
        # The peer may have to wait before it can answer. Then it is enough that its system has
        # acknowledged the ping.
        return self._ask_socket(lambda sock: holds_up_peer(sock, unread), False) and (
            self._ask_socket(count_unacknowledged, 1) == 0
        )

    def service(self) -> None:
        """Do nothing: the loop attends to the connection."""

    def post_ping(self) -> None:
        """Send a ping without waiting; any thread may call it."""
        self._at_home(self._post_ping)

    def _post_ping(self) -> None:
        if self.connected:
            self._heard = self.bytes_received + self._count_unread()
            self._write(self._protocol.send_ping())

    def go_away(self, code: int, reason: str) -> None:
        """Send a close frame, without waiting for anything; any thread may call it."""
        self._at_home(functools.partial(self._begin_close, code, reason))

    def dismiss(self, code: int, reason: str) -> None:
        """Do the same, and drop what the handler has not received yet."""

        def dismiss() -> None:
            self.drop_messages()
            self._begin_close(code, reason)

        self._at_home(dismiss)

    def note_stop(self) -> None:
        """Note that the server stops; any thread may call it."""
        self.server_stops = True

    def cancel_work(self) -> None:
        """Cancel what runs on the connection; any thread may call it."""
        if self.owner is not None:
            self._at_home(self.owner.on_time_up)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call a function after some seconds, on the loop; any thread may call this.

        :param function: must not wait or raise.
        """
        self._at_home(functools.partial(self._loop.call_later, seconds, function))

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (section 7.1.7); any thread may call it."""

        def fail() -> None:
            self._fail(code, reason)
            self._give_up()

        self._at_home(fail)


for _name in ("send", "ping", "receive", "close"):
    # As the app calls it, for Python's warning of a coroutine that was never awaited.
    getattr(AsyncConnection, _name).__qualname__ = f"AsyncWebSocket.{_name}"

#: A connection of either kind, for code that drives many.
AnyConnection: TypeAlias = "Connection | AsyncConnection"
