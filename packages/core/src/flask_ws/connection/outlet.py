"""What a connection of messages has to send, and its server has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol as Interface

from ..protocol.events import Close
from ..protocol.messages import Outgoing, ServerMessages, size_of

__all__ = ["Outlet"]

#: From so many waiting bytes on, who sends has to wait; and until there are only so many.
HIGH, LOW = 2**16, 2**14


class Sending(Interface):
    """What an outlet tells its connection."""

    def pause_writing(self) -> None:
        """Have senders wait from now on."""

    def resume_writing(self) -> None:
        """Let senders go on."""

    def resume_reading(self) -> None:
        """Go on receiving."""

    def abort(self) -> None:
        """End the connection now."""

    def lose_while_sending(self, error: Exception) -> None:
        """Count the connection as lost, for which the server has raised ``error``."""


class Outlet:
    """Gives a server one message after the other; in place of an asyncio transport.

    A task does so, while there are any: so a sender that is cancelled leaves no message half sent,
    and whoever sends keeps its place. All of it is the loop's.

    :param connection: the connection.
    :param server: the server's side of it.
    """

    __slots__ = (
        "_connection",
        "_is_full",
        "_is_lent",
        "_is_open",
        "_queue",
        "_server",
        "_size",
        "_task",
    )

    def __init__(self, connection: Sending, server: ServerMessages) -> None:
        self._connection = connection
        self._server = server
        self._queue: deque[Outgoing] | None = None
        self._size = 0
        # Whether senders are to wait; and whether the handshake is answered.
        self._is_full = self._is_open = False
        # Whether a task of somebody else's gives the server a message.
        self._is_lent = False
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Send what waits: the handshake is answered."""
        self._is_open = True
        if self._queue:
            self._start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nobody sends."""
        return self._is_open and self._queue is None and self._task is None and not self._is_lent

    async def send(self, message: str | bytes) -> None:
        """Give the server a message in the caller's own task, while :attr:`is_idle`.

        That is quicker than a task for it, and others queue meanwhile. The caller, when it is
        cancelled, may have sent the message or not.
        """
        self._is_lent = True
        size = size_of(message)
        self._size += size
        try:
            await self._server.send(message)
        except Exception as error:
            self.clear()
            self._connection.lose_while_sending(error)
        finally:
            self._is_lent = False
            self._size = max(0, self._size - size)
            if self._queue is not None:
                self._start()

    def write(self, message: Outgoing) -> None:
        """Send a message, after those that wait."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(message)
        self._size += size_of(message)
        if self._size >= HIGH and not self._is_full:
            self._is_full = True
            self._connection.pause_writing()
        if self._is_open and self._task is None and not self._is_lent:
            self._start()

    def _start(self) -> None:
        self._task = self._server.loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        server = self._server
        try:
            while self._queue:
                message = self._queue[0]
                if isinstance(message, Close):
                    await server.close(message.code, message.reason)
                else:
                    await server.send(message)
                self._sent(message)
        except Exception as error:
            self._task = None
            self.clear()
            self._connection.lose_while_sending(error)
        finally:
            self._task = None

    def _sent(self, message: Outgoing) -> None:
        queue = self._queue
        # What waited may have been dropped meanwhile.
        if queue and queue[0] is message:
            queue.popleft()
            self._size -= size_of(message)
        if not queue:
            self._queue = None
        if self._size <= LOW and self._is_full:
            self._is_full = False
            self._connection.resume_writing()

    def clear(self) -> None:
        """Drop what waits."""
        self._queue = None
        self._size = 0

    # As a transport

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self._size

    def pause_reading(self) -> None:
        """Do nothing: the connection receives by itself."""

    def resume_reading(self) -> None:
        """Go on receiving."""
        self._connection.resume_reading()

    def write_eof(self) -> None:
        """Do nothing: the server ends the stream."""

    def close(self) -> None:
        """Do nothing: the server closes the connection."""

    def abort(self) -> None:
        """Drop what waits, and end the connection."""
        self.clear()
        if self._task is not None:
            self._task.cancel()
        self._connection.abort()
