"""What a connection of messages has to send, and its server has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol as Interface

from ..protocol.events import Close
from ..protocol.messages import Outgoing, ServerMessages
from .dispatcher import Dispatcher

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

    A task that all connections share does so: so a sender that is cancelled leaves no message half
    sent, and whoever sends keeps its place. All of it is the loop's.

    :param connection: the connection.
    :param server: the server's side of it.
    :param dispatcher: has that task.
    """

    __slots__ = (
        "_connection",
        "_dispatcher",
        "_is_full",
        "_queue",
        "_server",
        "_task",
        "is_idle",
        "size",
    )

    def __init__(self, connection: Sending, server: ServerMessages, dispatcher: Dispatcher) -> None:
        self._connection = connection
        self._server = server
        self._dispatcher = dispatcher
        # Messages with their sizes.
        self._queue: deque[tuple[Outgoing, int]] | None = None
        # Whether senders are to wait.
        self._is_full = False
        # The task that gives the server a message.
        self._task: asyncio.Task[None] | None = None
        #: Whether the handshake is answered, nothing waits, and nobody sends. Who then gives the
        #: server a message by itself sets it to ``False``, and :meth:`take_back` must follow.
        self.is_idle = False
        #: How many bytes wait.
        self.size = 0

    def open(self) -> None:
        """Send what waits: the handshake is answered."""
        self.take_back(0)

    def take_back(self, size: int) -> None:
        """Go on: somebody has given the server a message.

        :param size: what was added to :attr:`size` for it.
        """
        self.size = max(0, self.size - size)
        if self._queue is None:
            self.is_idle = True
        else:
            self._dispatcher.add(self)

    def write(self, message: Outgoing, size: int) -> None:
        """Send a message, after those that wait.

        :param size: its size, in bytes.
        """
        if self._queue is None:
            self._queue = deque()
        self._queue.append((message, size))
        self.size += size
        if self.size >= HIGH and not self._is_full:
            self._is_full = True
            self._connection.pause_writing()
        if self.is_idle:
            self.is_idle = False
            self._dispatcher.add(self)

    async def send_all(self, task: asyncio.Task[None]) -> None:
        """Give the server what waits.

        :param task: the task that does so.
        """
        server = self._server
        self._task = task
        try:
            while self._queue:
                first = self._queue[0]
                message, size = first
                if isinstance(message, Close):
                    await server.close(message.code, message.reason)
                else:
                    await server.send(message)
                # What waited may have been dropped meanwhile.
                if self._queue and self._queue[0] is first:
                    self._queue.popleft()
                    self.size -= size
                if not self._queue:
                    self._queue = None
                if self._is_full and self.size <= LOW:
                    self._is_full = False
                    self._connection.resume_writing()
        except Exception as error:
            self._task = None
            self.clear()
            self._connection.lose_while_sending(error)
        finally:
            self._task = None
            if self._queue is None:
                self.is_idle = True
            else:
                self._dispatcher.add(self)

    def clear(self) -> None:
        """Drop what waits."""
        self._queue = None
        self.size = 0

    # As a transport

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return self.size

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
        # Not where the task itself comes here: it has other connections to serve.
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._connection.abort()
