"""A TLS connection on an asyncio loop, where TLS was begun by a server of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol as Interface

from ..protocol.frames import BytesLike
from .tls import TLSTransport

__all__ = ["TLSStream"]

#: Bytes that wait to be sent, past which those who send are to wait, and below which they go on.
HIGH_WATER = 2**16
LOW_WATER = 2**14
#: Reads in one turn of the loop. What TLS has read ahead does not make the socket readable.
READS = 8


class Receiver(Interface):
    """The connection that uses the stream."""

    def connection_made(self, transport: TLSStream) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> bool: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...


class TLSStream:
    """A transport as asyncio has them, for a socket that asyncio does not take.

    :param loop: the loop, on which all of it happens.
    :param transport: the TLS connection.
    :param receiver: the connection that is told of what comes.
    """

    __slots__ = (
        "_buffer",
        "_closing",
        "_ending",
        "_eof",
        "_full",
        "_loop",
        "_paused",
        "_reading",
        "_receiver",
        "_transport",
        "_writing",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: TLSTransport, receiver: Receiver
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._receiver = receiver
        self._buffer = bytearray()
        # Whether the buffer is past its high-water mark, and has not come below the other since.
        self._full = False
        self._eof = False
        # Whether the end comes with that of the buffer, and whether it has come.
        self._ending = False
        self._paused = False
        self._closing = False
        # What the loop looks for.
        self._reading = False
        self._writing = False
        receiver.connection_made(self)
        self._read()

    # Receiving

    def pause_reading(self) -> None:
        """Receive nothing for now."""
        self._paused = True
        self._look(reading=False)

    def resume_reading(self) -> None:
        """Receive again."""
        if self._paused:
            self._paused = False
            # TLS may hold what has come before.
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        for _ in range(READS):
            if self._paused or self._closing:
                return
            try:
                data = self._transport.try_recv()
            except (OSError, ValueError) as error:
                self._end(error)
                return
            if data is None:
                self._look(reading=True)
                # A change of keys can make a read wait for a write.
                self._look(writing=bool(self._buffer) or self._transport.wants_write)
                return
            if not data:
                self._look(reading=False)
                self._paused = True
                if not self._receiver.eof_received():
                    self._end(None)
                return
            self._receiver.data_received(data)
        # Others have their turn.
        self._look(reading=False)
        self._loop.call_soon(self._read)

    # Sending

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return len(self._buffer)

    def write(self, data: BytesLike) -> None:
        """Send, now or as soon as it can be."""
        if self._closing:
            return
        self._buffer += data
        if not self._writing:
            self._flush()
        if len(self._buffer) > HIGH_WATER and not self._full:
            self._full = True
            self._receiver.pause_writing()

    def write_eof(self) -> None:
        """Send nothing after what waits."""
        if not self._eof and not self._closing:
            self._eof = True
            if not self._buffer:
                self._transport.half_close()

    def close(self) -> None:
        """End the connection when what waits has been sent."""
        if self._closing:
            return
        self._ending = True
        self.pause_reading()
        self.write_eof()
        if not self._buffer:
            self._end(None)

    def _flush(self) -> None:
        buffer = self._buffer
        while buffer and not self._closing:
            # A part of it: TLS keeps no more than a record, and what was sent is to be let go of.
            with memoryview(buffer) as view, view[:HIGH_WATER] as part:
                try:
                    sent = self._transport.try_send(part)
                except (OSError, ValueError) as error:
                    failure: Exception | None = error
                else:
                    failure = None
            if failure is not None:
                self._end(failure)
                return
            del buffer[:sent]
            if not sent:
                break
        if self._closing:
            return
        self._look(writing=bool(buffer))
        if self._full and len(buffer) <= LOW_WATER:
            self._full = False
            self._receiver.resume_writing()
        if self._eof and not buffer:
            self._transport.half_close()
            if self._ending:
                self._end(None)

    def _on_writable(self) -> None:
        self._flush()
        if self._transport.wants_write:
            self._read()

    # The end

    def abort(self) -> None:
        """End the connection at once."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._look(reading=False, writing=False)
        self._transport.abort()
        self._buffer = bytearray()
        # As asyncio does: not within what the connection is doing just now.
        self._loop.call_soon(self._lose, error)

    def _lose(self, error: Exception | None) -> None:
        try:
            self._receiver.connection_lost(error)
        finally:
            self._transport.close()

    def _look(self, *, reading: bool | None = None, writing: bool | None = None) -> None:
        """Have the loop look for what can be read or written, or no longer."""
        fd = self._transport.fd
        if reading is not None and reading is not self._reading:
            self._reading = reading
            self._switch(reading, self._loop.add_reader, self._loop.remove_reader, fd, self._read)
        if writing is not None and writing is not self._writing:
            self._writing = writing
            add, remove = self._loop.add_writer, self._loop.remove_writer
            self._switch(writing, add, remove, fd, self._on_writable)

    @staticmethod
    def _switch(
        on: bool,
        add: Callable[..., object],
        remove: Callable[[int], object],
        fd: int,
        function: Callable[[], None],
    ) -> None:
        if on:
            add(fd, function)
        else:
            remove(fd)
