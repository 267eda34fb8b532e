"""Writing: who writes to the socket of a connection, and what goes out next.

Frames that cannot be sent at once are queued, and whoever writes next sends them first. The close
frame is queued as the last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..budget import STEP, budget
from ..concurrency import Concurrency, HomeThread
from ..protocol.close_codes import TRY_AGAIN_LATER
from ..protocol.frames import BytesLike
from ..protocol.protocol import Protocol
from ..tally import READS_TOO_SLOWLY
from .locks import attempts, is_held
from .outbox import Outbox
from .state import State
from .transport import Transport, coalesce

__all__ = ["LOST_WHILE_SENDING", "TOO_MUCH_HELD", "Writer", "keep"]

logger = logging.getLogger("flask_ws")

TOO_MUCH_HELD = "the server holds too much for its clients"

LOST_WHILE_SENDING = "the connection was lost while sending"
INTERRUPTED = "an exception interrupted a send where it left the stream broken"

#: The bytes of an empty outbox.
NOTHING = (0, 0)


class Writer:
    """The lower part of the sending half: the socket, the outbox, the close frame. For any thread.

    :param state: the connection's state.
    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param home: the one thread in which they work, if any.
    :param max_outbox: bytes sent without waiting that may be queued until the peer reads them.
    :param label: the name of the connection in logs.
    """

    __slots__ = (
        "_attempts",
        "_closing",
        "_counted",
        "_max_outbox",
        "_outbox",
        "_protocol",
        "_state",
        "_transport",
        "concurrency",
        "fd",
        "home",
        "label",
        "when_blocked",
        "writing",
    )

    def __init__(
        self,
        state: State,
        transport: Transport,
        protocol: Protocol,
        *,
        concurrency: Concurrency,
        home: HomeThread | None,
        max_outbox: int,
        label: str,
    ) -> None:
        self._state = state
        self._transport = transport
        self._protocol = protocol
        self._max_outbox = max_outbox
        # What other threads queued meanwhile, and what the kernel did not take; sent first.
        self._outbox = Outbox(concurrency)
        # Its bytes that the budget knows of: all, and those that no other outbox shares.
        self._counted = NOTHING
        # Acquired, and never released, by the first thread to send a close frame.
        self._closing = concurrency.lock()
        #: Held by the thread that writes to the socket.
        self.writing = concurrency.lock()
        self._attempts = attempts(self.writing)
        #: The file descriptor.
        self.fd = transport.fd
        #: The primitives that go with the socket.
        self.concurrency = concurrency
        #: The one thread in which they work; ``None`` if any thread may use them.
        self.home = home
        #: The name of the connection in logs.
        self.label = label
        #: Called when the kernel does not take all of the outbox.
        self.when_blocked: Callable[[Writer], None] | None = None

    @property
    def waiting(self) -> int:
        """Bytes that wait for the kernel to take them."""
        return self._outbox.size

    @property
    def released(self) -> bool:
        """Whether the socket has been closed."""
        return self._state.released

    def lose(self, reason: str) -> None:
        """Count the connection as lost, unless it is closed already."""
        self._state.lose(reason)

    # The outbox

    @property
    def is_sending(self) -> bool:
        """Whether something is being sent, so that a ping would have to wait behind it."""
        return bool(self._outbox.frames) or is_held(self.writing)

    def queue(self, buffers: list[BytesLike]) -> bool:
        """Put a frame into the outbox; ``False`` if a close frame is there, or was sent."""
        return self._outbox.append(*keep(buffers))

    def post(self, buffers: list[BytesLike]) -> None:
        """Send a frame without waiting: what cannot be sent now is sent as soon as possible."""
        self.queue(buffers)
        self.flush()

    def flush(self, *, later: bool = True) -> bool:
        """Send what the kernel takes of the outbox.

        :param later: whether the rest is to be sent when the socket is writable.
        :return: whether nothing is left, or another thread is sending it.
        """
        done = True
        outbox, transport = self._outbox, self._transport
        frame: BytesLike | None = None
        before = 0
        while done and outbox.frames:
            change, held = None, False
            try:
                for held in self._attempts:
                    break
                if not held:
                    # The thread that holds it checks the outbox again after releasing it.
                    break
                while done and outbox.frames:
                    frame, before = None, transport.sent
                    frame = outbox.peek()
                    sent = transport.try_send(frame)
                    done = sent == len(frame)
                    outbox.sent(sent)
                if outbox.is_finished and self._state.linger_until is not None:
                    transport.half_close()
                    if self._state.peer_closed:
                        transport.abort()
            except BaseException as error:
                if not held:
                    raise
                if not self._has_failed(error, [b""]):
                    self._take_out(frame, before)
                    raise
                outbox.clear()
                self._state.lose(LOST_WHILE_SENDING)
            finally:
                if held:
                    try:
                        change = None if done and self._counted is NOTHING else self._count()
                    finally:
                        self.writing.release()
            if change is not None:
                budget.change(self, *change)
        if later and not done and self.when_blocked is not None:
            self.when_blocked(self)
        return done

    def wait_writable(self, timeout: float) -> bool:
        """Wait until the socket can be written."""
        return self.concurrency.wait_writable(self.fd, timeout)

    def drain(self, deadline: float) -> None:
        """Wait until all that was to be sent has been sent, or the time is up."""
        while self.is_sending and (left := deadline - time.monotonic()) > 0:
            is_held(self.writing, left)
            if not self.flush(later=False):
                self.wait_writable(min(left, 0.05))

    def clear(self) -> None:
        """Drop what has not been sent; called by the thread that writes."""
        self._outbox.clear()
        change = self._count()
        if change is not None:
            budget.change(self, *change)

    # After an exception that has interrupted a write

    @staticmethod
    def _has_failed(error: BaseException, buffers: list[BytesLike] | None) -> bool:
        """Tell whether an exception is the socket's own, and the connection is lost.

        :param error: the exception.
        :param buffers: what was being sent; ``None`` if that had not been encoded.
        """
        if buffers is None or not isinstance(error, (OSError, ValueError)):
            return False
        # A signal handler may raise a TimeoutError, too; that has no errno.
        return not isinstance(error, TimeoutError) or error.errno is not None

    def _take_out(self, frame: BytesLike | None, before: int) -> None:
        """Remove from the outbox what was sent of its first frame before an interruption.

        :param frame: the frame, if it is known already.
        :param before: what had been sent before it, in bytes.
        """
        outbox = self._outbox
        if outbox.unsure or self._transport.unsure:
            self._lose_track()
        elif frame is not None and outbox.frames and outbox.frames[0] is frame:
            outbox.sent(self._transport.sent - before)

    def _lose_track(self) -> None:
        """Lose the connection: it is unknown what the peer has received."""
        self._outbox.clear()
        self._state.lose(INTERRUPTED)

    # The memory that it takes

    def _count(self) -> tuple[int, int] | None:
        """Measure what waits, for the budget; called by the thread that writes.

        :return: the changes of its own bytes and of all; ``None`` if they are small.
        """
        known, own = self._counted
        size = self._outbox.size
        if -STEP < size - known < STEP and (size >= STEP or not known):
            return None
        self._counted = self._outbox.count() if size >= STEP else NOTHING
        return self._counted[1] - own, self._counted[0] - known

    def let_go(self) -> int:
        """End the connection, and drop what waits: the process holds too much."""
        if self._state.close_code is None and self._closing.acquire(False):
            held = False
            try:
                for held in self._attempts:
                    break
                if held:
                    self._outbox.cut()
            finally:
                if held:
                    self.writing.release()
            self._fail(TRY_AGAIN_LATER, TOO_MUCH_HELD, closing=True)
        return TRY_AGAIN_LATER

    # The close frame

    def send_close(self, code: int, reason: str) -> bool:
        """Send a close frame, unless one has been sent; the first step of the closing handshake.

        :return: ``False`` if another thread has not finished a message within ``close_timeout``.
        """
        if self._closing.acquire(False):
            held = False
            try:
                # Wait for a thread that is sending, so that the frame goes out at once.
                for held in map(self.writing.acquire, (True,), (self._state.close_timeout,)):
                    break
                if not held:
                    return False
                self._queue_close(code, reason)
            finally:
                if held:
                    self.writing.release()
            self.flush()
        return True

    def send_close_nowait(self, code: int, reason: str) -> None:
        """Send a close frame, unless one has been sent, without waiting for anything."""
        if self._closing.acquire(False):
            self._queue_close(code, reason)
            self.flush()

    def answer_close(self, code: int, reason: str) -> None:
        """Answer the peer's close frame, and end TCP when the answer has gone out."""
        self._state.peer_closed = True
        self._end(code, reason, closing=self._closing.acquire(False))
        if self._outbox.frames:
            # The answer waits behind a message; the thread that sends it ends TCP, too.
            self._state.limit_lingering()
        else:
            self._state.linger_until = None

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection (section 7.1.7): tell the peer why, and receive no more."""
        if self._state.close_code is None:
            self._fail(code, reason, closing=self._closing.acquire(False))

    def overflow(self) -> None:
        """End the connection with 1013: its peer does not read what waits for it."""
        # Other threads may call this at the same time. After a close frame it does not grow.
        if self._state.close_code is not None or not self._closing.acquire(False):
            return
        logger.warning(
            "%s: the peer reads too slowly: %d bytes wait for it, the limit is %d "
            "(SOCK_MAX_OUTBOX)",
            self.label,
            self._outbox.size,
            self._max_outbox,
        )
        self._fail(*READS_TOO_SLOWLY, closing=True)

    def _fail(self, code: int, reason: str, *, closing: bool) -> None:
        self._end(code, reason, closing=closing)
        self._state.limit_lingering()

    def _end(self, code: int, reason: str, *, closing: bool) -> None:
        """Close the connection with a last frame, unless a close frame has been sent."""
        state = self._state
        # In this order: a thread that sees that the connection is closed may release it at once,
        # and waits for the outbox only if the time to linger is set.
        state.begin_lingering()
        if closing:
            self._queue_close(code, reason)
        state.set_closed(code, reason)
        if closing:
            self.flush()
        if not self._outbox.frames:
            self._transport.half_close()

    def _queue_close(self, code: int, reason: str) -> None:
        """Put a close frame into the outbox, as its last."""

        def announce() -> None:
            self._state.sent_close = (code, reason)

        (frame,) = self._protocol.send_close(code, reason)
        self._outbox.close(frame, announce)


def keep(buffers: list[BytesLike]) -> list[BytesLike]:
    """Return a frame in parts that later changes to its buffers do not reach."""
    if len(buffers) == 1:
        return buffers
    header, payload = buffers
    if not isinstance(payload, bytes):
        payload = bytes(payload)
    return coalesce([header, payload])
