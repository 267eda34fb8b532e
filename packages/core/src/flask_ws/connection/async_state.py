"""Whether a connection on an asyncio loop is open, what has ended it, and what its parts share.

What :class:`~flask_ws.connection.state.State` is for threads.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from ..concurrency import Concurrency, HomeThread
from ..exceptions import ConnectionClosed
from ..label import Label
from ..protocol.close_codes import ABNORMAL_CLOSURE
from ..protocol.frames import BytesLike

__all__ = ["AsyncState", "Owner", "Stream", "wake"]


class Stream(Interface):
    """What a connection needs of its transport: a part of :class:`asyncio.Transport`."""

    def write(self, data: BytesLike) -> None: ...  # noqa: D102

    def get_write_buffer_size(self) -> int: ...  # noqa: D102

    def pause_reading(self) -> None: ...  # noqa: D102

    def resume_reading(self) -> None: ...  # noqa: D102

    def write_eof(self) -> None: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102

    def abort(self) -> None: ...  # noqa: D102


class Owner(Interface):
    """What is called at the end of a connection."""

    def on_closed(self) -> None:
        """Note that the connection is closed."""

    def on_released(self, connection: Any) -> None:
        """Note that its socket is closed."""

    def on_time_up(self) -> None:
        """Cancel what still runs: the server waits no longer."""


class AsyncState(asyncio.Protocol):
    """The state of a connection on an asyncio loop.

    :param loop: the loop.
    :param home: the loop's thread; ``None`` if only the loop's own tasks use the connection.
    :param concurrency: names the primitives of the loop's thread.
    :param close_timeout: seconds that a closing handshake may take.
    :param label: the name of the connection in logs.
    """

    __slots__ = (
        "_close_timeout",
        "_deadline",
        "_draining",
        "_ending",
        "_loop",
        "_sent_close",
        "_stream",
        "close_code",
        "close_reason",
        "concurrency",
        "home",
        "label",
        "owner",
        "released",
        "thread",
    )

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        home: HomeThread | None,
        concurrency: Concurrency,
        close_timeout: float,
        label: Label,
    ) -> None:
        #: The name of the connection in logs.
        self.label = label
        #: The loop's thread.
        self.home = home
        #: The primitives of the loop's thread.
        self.concurrency = concurrency
        self._loop = loop
        self._close_timeout = close_timeout
        self._stream: Stream | None = None
        # The tasks that wait until less is queued in the transport.
        self._draining: list[asyncio.Future[None]] | None = None
        # The close frame that was sent, the tasks that wait for the connection to be closed, and
        # the timer that ends it where the peer does not.
        self._sent_close: tuple[int, str] | None = None
        self._ending: list[asyncio.Future[None]] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        #: The close code (RFC 6455 section 7.1.5) once the connection is closed: that of the close
        #: frame, 1005 where it had none, 1006 where the connection was lost.
        self.close_code: int | None = None
        #: The reason that came with it.
        self.close_reason = ""
        #: Whether the socket has been closed.
        self.released = False
        #: What is told of its end.
        self.owner: Owner | None = None
        #: The number of the thread that runs nothing but the loop; 0 where there is none. It is
        #: asked for in place of the running loop: before Python 3.12 that is a system call.
        self.thread = 0

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self.close_code is None and self._sent_close is None

    def check_connected(self) -> None:
        """Check that messages can be sent.

        :raises ConnectionClosed: they cannot.
        """
        if not self.connected:
            raise self._error()

    def _error(self) -> ConnectionClosed:
        if self.close_code is not None:
            return ConnectionClosed(self.close_code, self.close_reason)
        code, reason = self._sent_close or (ABNORMAL_CLOSURE, "")
        return ConnectionClosed(code, reason)

    def lose(self, reason: str) -> None:
        """Count the connection as lost, unless it is closed already; any thread may call it."""
        self._at_home(functools.partial(self._lose, reason))

    def _lose(self, reason: str) -> None:
        if self.close_code is None:
            self._set_closed(ABNORMAL_CLOSURE, reason)
            self._set_deadline(None)
            if self._stream is not None:
                self._stream.abort()

    def _set_closed(self, code: int, reason: str) -> None:
        self.close_reason = reason
        self.close_code = code
        for waiting in (self._ending, self._draining):
            wake(waiting)
        self._ending = self._draining = None
        if self.owner is not None:
            self.owner.on_closed()

    def _set_deadline(self, function: Callable[[], object] | None) -> None:
        """Call a function after ``close_timeout`` seconds, in place of the one before."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if function is not None:
            self._deadline = self._loop.call_later(self._close_timeout, function)

    def _at_home(self, function: Callable[[], object]) -> None:
        if self.home is None:
            function()
        else:
            self.home.run(function)

    async def _wait_among(self, waiting: list[asyncio.Future[None]]) -> None:
        # A future for each task: to cancel one that several await would cancel all of them.
        future = self._loop.create_future()
        waiting.append(future)
        await future


def wake(waiting: list[asyncio.Future[None]] | None) -> None:
    """Wake the tasks that wait."""
    for future in waiting or ():
        if not future.done():
            future.set_result(None)
