"""One open connection whose server frames its messages itself, as under ASGI.

What :class:`~flask_ws.connection.async_connection.AsyncConnection` is where there are frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Any, cast

from ..exceptions import ConnectionClosed
from ..protocol.close_codes import ABNORMAL_CLOSURE, NO_STATUS, NORMAL_CLOSURE
from ..protocol.events import too_big
from ..protocol.frames import BytesLike
from ..protocol.messages import MessageProtocol, ServerMessages, size_of
from ..protocol.protocol import Protocol
from ..protocol.shared import SharedMessage
from .async_connection import AsyncConnection
from .dispatcher import Dispatcher
from .outlet import Outlet
from .reader import NO_CLOSE_FRAME
from .receiver import TURNS
from .writer import LOST_WHILE_SENDING

__all__ = ["MessageConnection"]

logger = logging.getLogger("flask_ws")

CANCELLED = "the server has ended the connection"
#: Seconds after which a message is received though the queue is full, because the server does not
#: come to send; and how many of them.
PEEK, MOST_PEEKED = 1.0, 16
#: What servers raise for a client that has gone: a subclass of :exc:`OSError`, says ASGI; some
#: servers, and middleware, raise the other.
GONE = (OSError, RuntimeError)
#: Libraries that frame messages, whose own errors a server may let through, as Uvicorn before 0.28.
FRAMERS = frozenset({"websockets", "wsproto"})
#: Seconds that a server has to take the answer to a close frame, once the handler has ended.
ANSWERING = 1.0
#: Codes for the end of a connection that no close frame has.
UNSENDABLE = (NO_STATUS, ABNORMAL_CLOSURE)


class MessageConnection(AsyncConnection):
    """A server's endpoint of a connection of messages, on the server's own loop.

    Messages come and go as they are; frames, pings, compression and the closing handshake are the
    server's. Its task for the connection awaits :meth:`serve`.

    :param server: the server's side of it.
    :param dispatcher: sends for the connections of its loop.
    :param max_message_size: the largest message accepted, in bytes; ``None`` for no limit.
    :param options: as for :class:`AsyncConnection`.
    """

    #: What has arrived is counted by message.
    is_mid_message = False

    __slots__ = ("_aborted", "_over", "_peeked", "_pump", "_released", "_room", "_server")

    def __init__(
        self,
        server: ServerMessages,
        *,
        dispatcher: Dispatcher,
        max_message_size: int | None,
        **options: Any,
    ) -> None:
        protocol = MessageProtocol(max_message_size)
        super().__init__(cast("Protocol", protocol), loop=server.loop, **options)
        self._server = server
        # There is no socket to look at while nothing is received.
        self._looking = True
        # The server's task while it can be woken, whether it was, and what it waits for when the
        # queue is full, and at the end.
        self._pump: asyncio.Task[Any] | None = None
        self._aborted = False
        self._room: asyncio.Future[None] | None = None
        self._peeked = 0
        self._over: asyncio.Future[None] | None = None
        self._released = False
        # From here on messages can be sent: they go out when the handshake is answered.
        self._stream = cast("Any", Outlet(self, server, dispatcher))

    # For the server's task

    async def serve(self, subprotocol: str | None, headers: list[tuple[str, str]]) -> None:
        """Answer the handshake, and live until the connection and its handler have ended.

        :param subprotocol: the subprotocol that was agreed on.
        :param headers: further headers of the answer.
        """
        pump = self._pump = cast("asyncio.Task[Any]", asyncio.current_task())
        end: ConnectionClosed | None = None
        try:
            if not self._aborted:
                await self._server.accept(subprotocol, headers)
                cast("Any", self._stream).open()
                if self._request_size:
                    self._count()
                end = await self._receive_all()
        except asyncio.CancelledError:
            if not self._aborted:
                # By the server: its graceful stop has timed out.
                self._end(CANCELLED)
                raise
            # By abort().
            if sys.version_info >= (3, 11):
                pump.uncancel()
        except Exception as error:
            if not means_gone(error):
                raise
            self._end(NO_CLOSE_FRAME if isinstance(error, OSError) else str(error))
        finally:
            self._end(NO_CLOSE_FRAME)
        if not (self._released or self._aborted):
            await self._linger(end)

    async def _linger(self, end: ConnectionClosed | None) -> None:
        """Wait for the end of the handler."""
        # Without the task, what waits for the server in send() would wait for its own end.
        self._over = self._loop.create_future()
        answer = None
        if end is not None:
            code, reason = self._sent_close or (end.code, "")
            answer = self._loop.create_task(self._answer(code, reason))
        try:
            await self._over
            if answer is not None:
                await asyncio.wait([answer], timeout=ANSWERING)
        finally:
            if answer is not None:
                answer.cancel()

    async def _answer(self, code: int, reason: str) -> None:
        """Answer the peer's close frame, or send ours, which may be waiting still.

        Some servers answer at the end of the task otherwise, or say at their own end that it has
        come when nothing has.
        """
        with contextlib.suppress(Exception):
            await self._server.close(NORMAL_CLOSURE if code in UNSENDABLE else code, reason)

    def _end(self, reason: str) -> None:
        """Note that the server has ended the connection, or will when its task returns."""
        self._pump = None
        if not self.released:
            self._lose(reason)
            self.connection_lost(None)

    async def _receive_all(self) -> ConnectionClosed:
        protocol: Any = self._protocol
        receive, limit = self._server.receive, protocol.max_size
        turns = 0
        while True:
            turns += 1
            if turns % TURNS == 0:
                # The server may have many at hand, and others have their turn.
                await asyncio.sleep(0)
            while self._full:
                if await self._must_peek():
                    break
            try:
                message = await receive()
            except ConnectionClosed as end:
                self._note_end(end)
                # Its frames have the server's own objects, and would keep them.
                return end.with_traceback(None)
            size = len(message) if type(message) is bytes else size_of(message)
            self.bytes_received += size
            # Once the close code is known, only the server's report of the end is awaited.
            if self.close_code is None:
                if size > limit:
                    self._take(too_big(size, limit))
                elif self._sent_close is None:
                    self.messages_received += 1
                    self._hand_on(message)

    def _hand_on(self, message: str | bytes) -> None:
        """Give a message to the task that waits for it, or keep it."""
        receiver = self._receiver
        if receiver is not None and not receiver.done():
            receiver.set_result(message)
        else:
            self._keep(message)
        if self._messages or self._counted:
            self._count()

    async def _must_peek(self) -> bool:
        """Wait for room in the queue; tell whether to receive though there is none."""
        if self._room is None:
            self._room = self._loop.create_future()
        done, _ = await asyncio.wait([self._room], timeout=PEEK)
        if done or self._stream is None or cast("Any", self._stream).is_idle:
            return False
        # Hypercorn's send() waits for room in a queue of its own when it finds that the client has
        # gone: this makes some, and finds the end there.
        self._peeked += 1
        return self._peeked <= MOST_PEEKED

    def _note_end(self, end: ConnectionClosed) -> None:
        if self.close_code is not None:
            return
        code, reason = end.code, end.reason
        if code == ABNORMAL_CLOSURE:
            reason = reason or NO_CLOSE_FRAME
        elif self._sent_close is not None:
            # The peer has answered our close frame; not all servers say with which code.
            code, reason = self._sent_close
        self._set_closed(code, reason)

    def abort(self) -> None:
        """End the connection now: the server closes it when its task returns."""
        if not self._aborted:
            self._aborted = True
            if self._pump is not None:
                self._pump.cancel()

    def release(self) -> None:
        """Let the server's task end: the handler has ended; any thread may call it."""
        self._at_home(self._release)

    def _release(self) -> None:
        self._released = True
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    # Receiving

    def _stop_reading(self) -> None:
        self._full = True

    def _go_on_reading(self) -> None:
        self._full = False
        self._peeked = 0
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def resume_reading(self) -> None:
        """Go on receiving."""
        self._go_on_reading()

    # Sending

    async def send(self, data: str | BytesLike) -> None:
        """Send a message; waits while the peer is slow. As :meth:`AsyncConnection.send`."""
        outlet: Any = self._stream
        if (
            outlet is None
            or not outlet.is_idle
            or self.close_code is not None
            or self._sent_close is not None
        ):
            await self._send_behind(data)
            return
        protocol: Any = self._protocol
        message, size = protocol.take_message(data)
        self._written += size
        self.messages_sent += 1
        # In the caller's own task, which is quicker; others queue meanwhile. When it is cancelled,
        # the server may have sent the message or not.
        outlet.is_idle = False
        outlet.size += size
        try:
            await self._server.send(message)
        except Exception as error:
            outlet.clear()
            self.lose_while_sending(error)
        finally:
            outlet.take_back(size)
        if self.close_code == ABNORMAL_CLOSURE:
            raise self._error()
        if self.messages_sent % TURNS == 0:
            # The server may take all of them without waiting, and others have their turn.
            await asyncio.sleep(0)

    async def _send_behind(self, data: str | BytesLike) -> None:
        """Send a message after those that wait."""
        while self._blocked:
            await self._drain()
        self.check_connected()
        self._write(self._protocol.send_message(data))
        self.messages_sent += 1
        if self._blocked or self.messages_sent % TURNS == 0:
            await self._give_way()

    def _write(self, buffers: list[Any]) -> None:
        outlet: Any = self._stream
        if outlet is None:
            return
        for message in buffers:
            size = size_of(message)
            self._written += size
            outlet.write(message, size)
        if self._blocked:
            self._loop.call_soon(self._count)

    def queue_shared(self, message: SharedMessage) -> bool:
        """Send a message that others get as well, at once: there are no frames to be joined."""
        return self.send_shared(message)

    def lose_while_sending(self, error: Exception) -> None:
        """Count the connection as lost, and log what does not mean that the client has gone."""
        if not means_gone(error):
            logger.error("%s: the server has failed to send.", self.label, exc_info=error)
        if self.close_code is None:
            self._set_closed(ABNORMAL_CLOSURE, LOST_WHILE_SENDING)
            # The server is about to find that out: some do not expect that the task ends before.
            self._set_deadline(self.abort)
            self._go_on_reading()

    def _fail(self, code: int, reason: str) -> None:
        stream = self._stream
        if self.close_code is None and self._blocked and stream is not None:
            # The peer reads too slowly, and what waits would only keep the close frame from it.
            self._written -= stream.get_write_buffer_size()
            cast("Any", stream).clear()
        super()._fail(code, reason)

    # For the monitor: the server sends pings, and finds dead peers

    @property
    def has_been_heard(self) -> bool:
        """Whether the peer lives, as far as is known here."""
        return True

    def post_ping(self) -> None:
        """Do nothing."""


# As the app calls it, for Python's warning of a coroutine that was never awaited.
MessageConnection.send.__qualname__ = "AsyncWebSocket.send"


def means_gone(error: Exception) -> bool:
    """Tell whether a server says by an error that the client has gone."""
    return isinstance(error, GONE) or type(error).__module__.partition(".")[0] in FRAMERS
