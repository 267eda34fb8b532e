"""Whether a connection is open, and what has ended it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..concurrency import Concurrency, Event
from ..exceptions import ConnectionClosed
from ..protocol.close_codes import ABNORMAL_CLOSURE
from ..system import TIMEOUT_MAX
from .transport import Transport

__all__ = ["CallAt", "State"]


#: Calls a function at a given time of :func:`time.monotonic`.
CallAt = Callable[[float, Callable[[], object]], object]


class State:
    """The state of a connection, which its parts share.

    :param transport: the socket.
    :param close_timeout: seconds that a closing handshake may take.
    :param call_at: calls a function at a given time, where nobody waits for the connection to end.
    """

    __slots__ = (
        "_call_at",
        "_ended",
        "_transport",
        "close_code",
        "close_reason",
        "close_timeout",
        "linger_until",
        "peer_closed",
        "released",
        "sent_close",
    )

    def __init__(
        self, transport: Transport, close_timeout: float, call_at: CallAt | None = None
    ) -> None:
        self._transport = transport
        self._call_at = call_at
        # Created when a thread that closes waits while another thread reads.
        self._ended: Event | None = None
        #: Seconds that a closing handshake may take.
        self.close_timeout = min(close_timeout, TIMEOUT_MAX)
        #: The close code (RFC 6455 section 7.1.5) once the connection is closed: a close frame's
        #: own, 1005 where it had none, 1006 where the connection was lost.
        self.close_code: int | None = None
        #: The reason that came with it.
        self.close_reason = ""
        #: The code and the reason of our close frame, once it is being sent.
        self.sent_close: tuple[int, str] | None = None
        #: Whether the peer has sent a close frame, after which it sends nothing.
        self.peer_closed = False
        #: When the peer's time to read our close frame ends.
        self.linger_until: float | None = None
        #: Whether the socket has been closed.
        self.released = False

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self.close_code is None and self.sent_close is None

    def error(self) -> ConnectionClosed:
        """Make the exception that says why nothing can be sent or received any more."""
        if self.close_code is not None:
            return ConnectionClosed(self.close_code, self.close_reason)
        code, reason = self.sent_close or (ABNORMAL_CLOSURE, "")
        return ConnectionClosed(code, reason)

    def set_closed(self, code: int, reason: str) -> None:
        """Set the close code, and wake waiting threads."""
        self.close_reason = reason
        self.close_code = code
        if self._ended is not None:
            self._ended.set()

    def wait_closed(self, concurrency: Concurrency, deadline: float) -> None:
        """Wait until the connection is closed; another thread reads its socket."""
        if self._ended is None:
            self._ended = concurrency.event()
        if self.close_code is None:
            self._ended.wait(max(0.0, deadline - time.monotonic()))

    def lose(self, reason: str) -> None:
        """Count the connection as lost, unless it is closed already, and wake waiting threads."""
        if self.close_code is None:
            self.set_closed(ABNORMAL_CLOSURE, reason)
            self._transport.abort()

    def begin_lingering(self) -> None:
        """Give the peer time to read the close frame."""
        self.linger_until = time.monotonic() + self.close_timeout

    def limit_lingering(self) -> None:
        """Abort the connection when that time is up, where nobody waits for it to end."""
        if self.linger_until is not None:
            self.call_at(self.linger_until, self._transport.abort)

    def call_at(self, when: float, function: Callable[[], object]) -> None:
        """Call a function at a given time, where nobody waits for the connection to end."""
        if self._call_at is not None:
            self._call_at(when, function)
