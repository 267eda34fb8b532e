"""Sending on an asyncio loop: messages, publications, and the close frame.

What :class:`~flask_ws.connection.sender.Sender` is for threads. The loop's thread does all of it,
so there are no locks; methods that other threads may call say so.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ..budget import STEP, budget
from ..protocol.close_codes import ABNORMAL_CLOSURE
from ..protocol.frames import BytesLike
from ..protocol.protocol import Protocol
from ..protocol.shared import SharedMessage
from ..tally import READS_TOO_SLOWLY
from .async_state import AsyncState, wake
from .outbox import OFFERED, Slot
from .receiver import TURNS
from .writer import keep

__all__ = ["AsyncSending"]

logger = logging.getLogger("flask_ws")


class AsyncSending(AsyncState):
    """The sending half of a connection on an asyncio loop.

    :param protocol: the WebSocket protocol.
    :param max_outbox: bytes sent without waiting that may be queued until the peer reads them.
    :param options: as for :class:`AsyncState`.
    """

    __slots__ = (
        "_aside",
        "_blocked",
        "_counted",
        "_held",
        "_max_outbox",
        "_protocol",
        "_request_size",
        "_written",
        "messages_sent",
    )

    def __init__(self, protocol: Protocol, *, max_outbox: int, **options: Any) -> None:
        super().__init__(**options)
        self._protocol = protocol
        self._max_outbox = max_outbox
        self._written = 0
        # Whether more is queued in the transport than should be.
        self._blocked = False
        # Publications to send at the end of this turn of the loop.
        self._held: list[bytes] | None = None
        # Slots whose frames are sent then too, or when the peer is not slow any more.
        self._aside: list[Slot] | None = None
        # The memory that the request takes; and of all that is held, what the budget knows of.
        self._request_size = 0
        self._counted = 0
        #: Messages so far.
        self.messages_sent = 0

    @property
    def bytes_sent(self) -> int:
        """Bytes that the kernel has taken so far."""
        stream = self._stream
        return self._written - (0 if stream is None else stream.get_write_buffer_size())

    @property
    def is_sending(self) -> bool:
        """Whether a ping would have to wait behind something that is being sent."""
        return self._blocked

    # Messages

    async def send(self, data: str | BytesLike) -> None:
        """Send a message (RFC 6455 section 5.6); waits while the peer is slow.

        When it is cancelled, the message has been sent whole, or not at all.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: ``data`` is something else.
        """
        while self._blocked:
            await self._drain()
        if self.close_code is not None or self._sent_close is not None:
            raise self._error()
        frame, stream = self._protocol.small_frame(data), self._stream
        if frame and stream is not None and self._held is None:
            # As _write() does, a call of which would cost a small message more than this.
            self._written += len(frame)
            stream.write(frame)
        else:
            self._write(self._protocol.send_message(data))
        sent = self.messages_sent = self.messages_sent + 1
        if self._blocked or not sent % TURNS:
            await self._give_way()

    async def _give_way(self) -> None:
        """Wait until the peer is not slow any more; or let other tasks run, if it is not.

        :raises ConnectionClosed: the connection was lost meanwhile.
        """
        if self._blocked:
            await self._drain()
            if self.close_code == ABNORMAL_CLOSURE:
                raise self._error()
        else:
            # Meanwhile the transport may report that the peer is lost.
            await asyncio.sleep(0)

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping (RFC 6455 section 5.5.2).

        :param payload: up to 125 bytes, which come back in the pong.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises ValueError: ``payload`` is too long.
        """
        while self._blocked:
            await self._drain()
        self.check_connected()
        self._write(self._protocol.send_ping(payload))
        await asyncio.sleep(0)

    def pause_writing(self) -> None:
        """Have senders wait from now on; called by the transport."""
        self._blocked = True
        self._count()

    def resume_writing(self) -> None:
        """Let senders go on; called by the transport."""
        self._blocked = False
        if self._counted:
            self._count()
        if self._aside is not None:
            self._send_aside()
        waiting, self._draining = self._draining, None
        wake(waiting)

    async def _drain(self) -> None:
        """Wait until no more is queued in the transport than should be."""
        if self._draining is None:
            self._draining = []
        await self._wait_among(self._draining)

    def _write(self, buffers: list[BytesLike]) -> None:
        stream = self._stream
        if stream is None:
            return
        if self._held is not None:
            self._send_held()
        if self._blocked:
            self._loop.call_soon(self._count)
        if len(buffers) == 1:
            (data,) = buffers
            self._written += len(data)
            stream.write(data)
            return
        # The transport keeps what it cannot send now without copying it, so it must not change.
        for data in keep(buffers):
            self._written += len(data)
            stream.write(data)

    # Messages that many connections get

    def send_shared(self, message: SharedMessage) -> bool:
        """Send a message that others get as well, without waiting; must be called at home.

        A closed connection gets nothing.

        :return: ``False`` if too much is queued now: :meth:`overflow` must follow.
        """
        if self.connected:
            self._write([self._protocol.send_shared(message)])
            self.messages_sent += 1
        return not self._blocked or self._is_within_limit()

    def queue_shared(self, message: SharedMessage) -> bool:
        """Send a message that others get as well at the end of this turn; otherwise the same."""
        if not self.connected:
            return True
        if self._held is None:
            self._held = []
            self._loop.call_soon(self._send_held)
        self._held.append(self._protocol.send_shared(message))
        self.messages_sent += 1
        # The limit is checked when it is sent.
        return True

    def offer_shared(self, message: SharedMessage, *, now: bool) -> bool:
        """Send a message for many, if there is room; must be called at home.

        :param now: is without effect.
        :return: ``False`` if the peer reads too slowly for it.
        """
        if self._held is not None:
            self._send_held()
        stream, most = self._stream, self._max_outbox
        size = 0 if stream is None else stream.get_write_buffer_size()
        if self.connected and size + len(message.payload) > (most * OFFERED if size else most):
            return False
        self.send_shared(message)
        return True

    def send_latest(self, message: SharedMessage, slot: Slot, *, now: bool) -> bool:
        """Send a message at the end of this turn, or when the peer is not slow any more.

        Until then the next one in the same slot takes its place; must be called at home.

        :param now: is without effect.
        :return: whether it has taken another's place.
        """
        if not self.connected:
            return False
        is_other = slot.frame is not None
        slot.frame = self._protocol.send_shared(message)
        if not is_other:
            self.messages_sent += 1
            if self._aside is None:
                self._aside = []
                self._loop.call_soon(self._send_aside)
            self._aside.append(slot)
        return is_other

    def _send_aside(self) -> None:
        """Send what waits in slots, as far as the peer is not slow."""
        aside = self._aside
        while aside and not self._blocked:
            slot = aside.pop(0)
            frame, slot.frame = slot.frame, None
            if frame is not None and self.connected:
                self._write([frame])
        if not aside:
            self._aside = None

    def flush(self) -> bool:
        """Do nothing: the loop sends what is queued."""
        return True

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held and self._stream is not None:
            self._write([b"".join(held)])
            self._overflow()

    def overflow(self) -> None:
        """Close the connection with 1013, if too much is queued; any thread may call it."""
        self._at_home(self._overflow)

    def _is_within_limit(self) -> bool:
        stream = self._stream
        return stream is None or stream.get_write_buffer_size() <= self._max_outbox

    def _overflow(self) -> None:
        stream = self._stream
        if stream is not None and self.close_code is None and not self._is_within_limit():
            logger.warning(
                "%s: the peer reads too slowly: %d bytes wait for it, the limit is %d "
                "(SOCK_MAX_OUTBOX)",
                self.label,
                stream.get_write_buffer_size(),
                self._max_outbox,
            )
            self._fail(*READS_TOO_SLOWLY)

    # Closing

    def _send_close(self, code: int, reason: str) -> None:
        # Set first: the write may fail, and the connection's end then says what was sent.
        self._sent_close = code, reason
        self._write(self._protocol.send_close(code, reason))

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (section 7.1.7): tell the peer why, and process nothing more."""
        if self.close_code is None:
            self._set_closed(code, reason)
            if self._sent_close is None:
                self._send_close(code, reason)
            self._finish()

    def _finish(self) -> None:
        """End the stream, and give the peer time to read the close frame.

        To close a socket with unread bytes resets the connection, and loses our close frame.
        """
        stream = self._stream
        if stream is not None:
            self._set_deadline(stream.abort)
            stream.write_eof()
            stream.resume_reading()

    # The memory that it takes

    def _count(self) -> None:
        """Tell the budget how much is held."""
        held = self._request_size + self._count_received()
        if self._blocked and self._stream is not None:
            held += self._stream.get_write_buffer_size()
        change = (held if held >= STEP else 0) - self._counted
        if not -STEP < change < STEP:
            self._counted += change
            budget.change(self, change)

    def _count_received(self) -> int:
        """Return the bytes of memory that what has been received takes."""
        return 0 if self.released else self._protocol.held

    def let_go(self) -> int:
        """End the connection, and free what is held; called at home.

        :return: the close code.
        """
        raise NotImplementedError
