"""Receiving: messages for a handler or an event view, and what cannot wait for either."""

from __future__ import annotations

import functools
import sys
import time
from collections import deque
from typing import overload

from ..concurrency import Concurrency, HomeThread
from ..protocol.events import Close, Violation
from ..protocol.protocol import Protocol
from .locks import attempts
from .reader import NO_CLOSE_FRAME, Reader
from .sender import Sender
from .state import State
from .transport import Transport

__all__ = ["Receiver"]

#: After this many reads or events, other threads or connections get to run.
TURNS = 64
#: How many of these an event counts for that is no message, where others wait for their turn: a
#: pong takes a system call, and what is reported of fragments is one event for many of them.
EVENT = 4
#: Seconds that a thread pauses after as many events that are no messages: no client needs them.
#: One that only yields gets the interpreter's lock back before another thread has woken up.
FLOOD_PAUSE = 0.005


class Receiver(Reader):
    """The receiving half of a connection; one thread at a time reads.

    The thread of a handler waits in :meth:`receive`. For an event view, the thread that finds
    the socket readable calls :meth:`next_message`. While neither reads, :meth:`service` does what
    cannot wait: it answers pings and close frames, and reads a few messages into the queue.

    :param state: the connection's state.
    :param sender: the sending half of the connection.
    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param home: the one thread in which they work, if any; other threads have it receive.
    :param max_queue: messages that :meth:`service` may queue.
    :param max_queue_bytes: bytes of memory that these may take; the last one may exceed it.
    """

    #: Whether messages have come before the end that an event view has not been given: here it
    #: gets the end in its order.
    has_unread = False

    __slots__ = ("_turns", "cut_short", "dropping", "needs_service")

    def __init__(
        self,
        state: State,
        sender: Sender,
        transport: Transport,
        protocol: Protocol,
        *,
        concurrency: Concurrency,
        home: HomeThread | None,
        max_queue: int,
        max_queue_bytes: int,
    ) -> None:
        super().__init__(
            state,
            sender,
            transport,
            protocol,
            concurrency=concurrency,
            home=home,
            max_queue=max_queue,
            max_queue_bytes=max_queue_bytes,
        )
        # Events of an event view's turn; calls of receive(), where greenlets are to take turns.
        self._turns = 0
        #: Whether :meth:`service` is to be called now and then: what the peer sends may not be
        #: read otherwise, while a handler or a view's method is busy with something else.
        self.needs_service = True
        #: Whether there may be more for an event view, but other connections come first.
        self.cut_short = False
        #: Whether what has arrived and was not received is dropped: an event view has closed the
        #: connection, or its client was dismissed.
        self.dropping = False

    # For a handler, which waits

    @overload
    def receive(self, timeout: None = None) -> str | bytes: ...

    @overload
    def receive(self, timeout: float | None) -> str | bytes | None: ...

    # One long function, because calls would cost more than the rest.
    def receive(  # noqa: C901
        self, timeout: float | None = None
    ) -> str | bytes | None:
        """Receive the next message; one thread at a time.

        :param timeout: seconds to wait for it; 0 takes what is there; ``None``, the default,
            waits for as long as the connection lives.
        :return: ``str`` for a text message, ``bytes`` for a binary one, ``None`` when the time
            is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises RuntimeError: another thread is in ``receive()`` already.
        """
        home = self.home
        if home is not None:
            if not home.is_here():
                return home.call(functools.partial(self.receive, timeout), self._sender.concurrency)
            # While messages are waiting, neither receiving nor sending lets others run.
            self._turns += 1
            if self._turns % TURNS == 0:
                self._sender.concurrency.pause()
        if self._receiving:
            raise RuntimeError(
                "Another thread is in receive() on this connection: let one thread receive and "
                "hand the messages on."
            )
        # Other readers hold it without waiting for data.
        with self.reading:
            self._receiving = True
            try:
                if self._messages and not self.dropping:
                    return self._take_queued()
                deadline = None if timeout is None else time.monotonic() + timeout
                protocol, state = self._protocol, self._state
                turns = events = 0
                while state.close_code is None:
                    event = None if protocol.drained else protocol.next_event()
                    if event is None:
                        event = self._read(
                            None if deadline is None else max(0.0, deadline - time.monotonic())
                        )
                    if type(event) is bytes or type(event) is str:
                        if state.sent_close is None:
                            self.messages_received += 1
                            if self._counted:
                                self._count()
                            return event
                    elif event is not None:
                        self._handle(event)
                        events += 1
                    turns += 1
                    if turns == TURNS:
                        if self._is_late(deadline, is_flooded=events > TURNS // 2):
                            return None
                        turns = events = 0
                if self._let_go:
                    self.clear()
                message = self._next_unread() if self._unread else None
                if message is not None:
                    return message
            except TimeoutError:
                if timeout is None:
                    # Not ours: a signal's handler has raised it.
                    raise
                return None
            finally:
                self._receiving = False
        self.tell_faults()
        raise state.error()

    def _is_late(self, deadline: float | None, *, is_flooded: bool) -> bool:
        """Let other threads run; return whether the time is up after that."""
        concurrency = self._sender.concurrency
        if is_flooded:
            concurrency.event().wait(FLOOD_PAUSE)
        else:
            concurrency.pause()
        return deadline is not None and time.monotonic() >= deadline

    def _next_unread(self) -> str | bytes | None:
        """Return the next message that arrived before the loss; ``None`` after the last."""
        before = -1
        while self.bytes_received != before:
            before = self.bytes_received
            event = self._protocol.next_event()
            if event is not None:
                before = -1
            elif self._state.released:
                break
            else:
                try:
                    event = self._read(0)
                except TimeoutError:
                    break
            if isinstance(event, (bytes, str)):
                self.messages_received += 1
                return event
            if isinstance(event, Close):
                # The peer had sent a close frame.
                self._state.set_closed(event.code, event.reason)
                break
            if isinstance(event, Violation):
                break
        self._unread = False
        return None

    # For an event view, whose driver sees that the socket is readable

    # One long function, because calls would cost more than the rest.
    def next_message(  # noqa: C901
        self, *, read: bool | None = None, wait: bool = False
    ) -> str | bytes | None:
        """Return the next message of what was read, and act on other frames.

        Where it returns ``None``, :attr:`cut_short` tells whether there may be more, for which
        another turn is to begin.

        :param read: whether to read once, if nothing is left of what was read before; ``None``
            goes on with the turn that the last call has begun.
        :param wait: whether to wait for something to read.
        """
        protocol = self._protocol
        with self.reading:
            self.cut_short = False
            if (
                read is None
                and protocol.drained
                and not (self._messages or self._counted or self._faults)
                and protocol.partial is None
            ):
                # The usual end of a turn, without a look at what follows.
                self.needs_service = False
                return None
            self.needs_service = True
            if read is not None:
                self._turns = 0
            elif self._turns >= TURNS:
                self.cut_short = self.has_more
                self.needs_service = False
                return None
            while self._messages:
                # What arrived while a method of the view ran.
                message = self._take_queued()
                if not self.dropping:
                    self._turns += 1
                    return message
            state = self._state
            event = None if protocol.drained else protocol.next_event()
            if event is None and read:
                try:
                    event = self._read(None if wait else 0)
                except TimeoutError:
                    # Another thread has read it.
                    pass
            while True:
                self._turns += 1
                if type(event) is bytes or type(event) is str:
                    if state.sent_close is None:
                        self.messages_received += 1
                        return event
                elif event is not None:
                    self._handle(event)
                    self._turns += EVENT - 1
                if state.close_code is not None or protocol.drained:
                    break
                if self._turns >= TURNS:
                    self.cut_short = True
                    break
                event = protocol.next_event()
                if event is None:
                    break
            if self._counted or protocol.partial is not None:
                self._count()
            # From here on only the caller reads.
            self.needs_service = False
        if self._faults:
            self.tell_faults()
        return None

    @property
    def has_more(self) -> bool:
        """Whether another message may be waiting."""
        return not self._protocol.drained or bool(self._messages)

    def discard(self, *, wait: bool) -> bool:
        """Read once, and drop it; ``False`` at the end of the stream."""
        try:
            return (self._transport.recv() if wait else self._transport.try_recv()) != b""
        except (OSError, ValueError):
            return False

    # While neither of them reads

    def service(self) -> None:
        """Read what is there, unless a thread is receiving: never waits."""
        held = False
        try:
            if self.needs_service:
                for held in attempts(self.reading):
                    break
            if held and self.needs_service:
                self._pump()
                if self.is_backed_up and self._transport.has_gone():
                    self._unread = True
                    self._state.lose(NO_CLOSE_FRAME)
        finally:
            if held:
                self.reading.release()
        self.tell_faults()

    def look(self) -> None:
        """Read what is there, unless another thread reads: the peer may have sent a close frame."""
        held = False
        try:
            for held in attempts(self.reading):
                break
            if held:
                while self._pump():
                    self._sender.concurrency.pause()
                self._unread = self.is_backed_up
        finally:
            if held:
                self.reading.release()
        self.tell_faults()

    def _pump(self) -> bool:
        """Queue what has arrived until the queue is full; return whether there may be more."""
        state = self._state
        more = False
        for turn in range(TURNS):
            if state.close_code is not None or self.is_backed_up:
                break
            event = self._protocol.next_event()
            if event is None:
                if state.released:
                    break
                try:
                    event = self._read(0)
                except TimeoutError:
                    break
            if isinstance(event, (bytes, str)):
                if state.sent_close is None:
                    self.messages_received += 1
                    if self._messages is None:
                        self._messages = deque()
                    self._messages.append(event)
                    self._queued += sys.getsizeof(event)
            elif event is not None:
                self._handle(event)
            more = turn == TURNS - 1
        if self._messages or self._counted or self._protocol.partial is not None:
            self._count()
        return more

    # At the end

    def await_close(self, deadline: float) -> None:
        """Wait for the peer's close frame, and drop the messages before it."""
        state = self._state
        held, turns = False, 0
        try:
            for held in attempts(self.reading):
                break
            if not held:
                # Another thread reads: it will see the answer.
                state.wait_closed(self._sender.concurrency, deadline)
            while held and state.close_code is None and time.monotonic() < deadline:
                turns += 1
                if turns % TURNS == 0:
                    self._sender.concurrency.pause()
                event = self._protocol.next_event()
                if event is None:
                    # What could not be sent yet is retried from time to time.
                    left = max(0.0, deadline - time.monotonic())
                    try:
                        event = self._read(left if self._sender.flush() else min(left, 0.05))
                    except TimeoutError:
                        continue
                if event is not None:
                    self._handle(event)
        finally:
            if held:
                self.reading.release()
        self.tell_faults()

    def await_end(self, deadline: float) -> None:
        """Half-close, wait for the end of the stream, and drop what arrives.

        To close a socket with unread bytes resets the connection, and loses our close frame.
        """
        with self.reading:
            try:
                self._transport.half_close()
                while self._transport.recv(max(0.0, deadline - time.monotonic())):
                    if time.monotonic() > deadline:
                        break
            except (OSError, ValueError):
                pass
