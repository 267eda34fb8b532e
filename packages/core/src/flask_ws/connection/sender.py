"""Sending: messages, pings and pongs."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..concurrency import Concurrency, HomeThread
from ..exceptions import ConnectionClosed
from ..protocol.frames import BytesLike
from ..protocol.protocol import Protocol
from ..protocol.shared import SharedMessage
from .cork import ENOUGH, corks
from .outbox import OFFERED, Slot
from .state import State
from .transport import Transport, coalesce, release_views
from .writer import LOST_WHILE_SENDING, Writer, keep

__all__ = ["Sender"]

#: Past this many queued bytes, pings are not answered.
PONG_LIMIT = 2**16


class Sender(Writer):
    """The sending half of a connection; any thread may use it.

    :param state: the connection's state.
    :param transport: the socket.
    :param protocol: the protocol.
    :param concurrency: the primitives that go with the socket.
    :param home: the one thread in which they work, if any; other threads have it send for them.
    :param max_outbox: bytes sent without waiting that may be queued until the peer reads them.
    :param label: the name of the connection in logs.
    """

    __slots__ = ("_pong", "messages_sent", "when_failed")

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
        super().__init__(
            state,
            transport,
            protocol,
            concurrency=concurrency,
            home=home,
            max_outbox=max_outbox,
            label=label,
        )
        # The last pong that was put into the outbox.
        self._pong: BytesLike | None = None
        #: Called when a message could not be sent, before the connection counts as lost.
        self.when_failed: Callable[[], None] | None = None
        #: Messages so far.
        self.messages_sent = 0

    def send(self, data: str | BytesLike, *, ping: bytes | None = None) -> None:
        """Send a message, and return when the operating system has taken all of it.

        An exception may interrupt it, such as ``gevent.Timeout`` or one that a signal's handler
        raises. What the kernel has not taken then goes out before anything else.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary.
        :param ping: the payload of a ping, to send that instead.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: ``data`` is something else.
        :raises ValueError: a ping's payload is too long.
        """
        home = self.home
        if home is not None and not home.catch_up():
            home.call(functools.partial(self.send, data, ping=ping), self.concurrency)
            return
        state, outbox, failed = self._state, self._outbox, False
        try:
            with self.writing:
                if outbox.frames:
                    failed = not self._send_queued()
                if not failed:
                    if state.sent_close is not None or state.close_code is not None:
                        raise state.error()
                    protocol, transport = self._protocol, self._transport
                    buffers, before = None, transport.sent
                    try:
                        # Within the lock: a compressed message builds on the one sent before it.
                        buffers = (
                            protocol.send_message(data)
                            if ping is None
                            else protocol.send_ping(ping)
                        )
                        transport.send(buffers)
                    except BaseException as error:
                        if not self._has_failed(error, buffers):
                            self._keep_rest(error, buffers, before)
                            raise
                        failed = True
                    else:
                        self.messages_sent += ping is None
        finally:
            # Other threads may have queued frames meanwhile, for this thread to send.
            if outbox.frames and not failed:
                self.flush()
        if failed:
            if self.when_failed is not None:
                self.when_failed()
            state.lose(LOST_WHILE_SENDING)
            raise state.error()

    def _send_queued(self) -> bool:
        """Send what is queued before a message; ``False`` if the connection is lost."""
        outbox, transport = self._outbox, self._transport
        # Not a close frame, though: no message may follow one.
        while outbox.frames and self._state.sent_close is None:
            frame, before = None, transport.sent
            try:
                frame = outbox.peek()
                transport.send([frame])
                outbox.sent(len(frame))
            except BaseException as error:
                if self._has_failed(error, [b""]):
                    return False
                self._take_out(frame, before)
                raise
        return True

    def _keep_rest(
        self, error: BaseException, buffers: list[BytesLike] | None, before: int
    ) -> None:
        """Queue the rest of a frame whose sending was interrupted, or lose the connection.

        :param error: what has interrupted it.
        :param buffers: the frame; ``None`` if it had not been encoded.
        :param before: what had been sent before it, in bytes.
        """
        taken = self._transport.sent - before
        if buffers is None:
            # Usually the data was refused. Otherwise the compressor's history may have what the
            # peer never gets.
            if self._protocol.deflates and not isinstance(error, (TypeError, ValueError)):
                self._lose_track()
        else:
            if self._transport.unsure:
                self._lose_track()
            else:
                parts = coalesce(buffers) if len(buffers) > 1 else buffers
                self._outbox.put_back(*cut(parts, taken))
                release_views(parts)
            # A stored exception keeps the callers' frames alive, and with them these.
            release_views(buffers)

    # Messages sent without waiting

    def send_nowait(self, data: str | BytesLike, *, ping: bytes | None = None) -> None:
        """Send a message without waiting: what the kernel does not take goes to the outbox.

        Past its limit the connection is closed with 1013. Otherwise as :meth:`send`.
        """
        home = self.home
        if home is not None and not home.catch_up():
            home.call(functools.partial(self.send_nowait, data, ping=ping), self.concurrency)
            return
        state, outbox = self._state, self._outbox
        with self.writing:
            if state.close_code is not None or state.sent_close is not None:
                raise state.error()
            protocol, cork = self._protocol, corks.current
            buffers = None
            try:
                # Within the lock: a compressed message builds on the one sent before it.
                buffers = protocol.send_message(data) if ping is None else protocol.send_ping(ping)
                if outbox.frames or cork is not None:
                    if not self.queue(buffers):
                        raise state.error()
                else:
                    # Most messages have one buffer, which keep() would return.
                    self._send_or_queue(buffers if len(buffers) == 1 else keep(buffers))
            except (ConnectionClosed, TypeError, ValueError):
                raise
            except BaseException:
                if buffers is not None or protocol.deflates:
                    self._lose_track()
                raise
            self.messages_sent += ping is None
        if cork is not None and outbox.size < ENOUGH:
            cork.hold(self)
        elif outbox.frames:
            # What the kernel did not take, and what other threads have queued meanwhile.
            self.send_held()

    def send_held(self) -> None:
        """Send what the kernel takes of the outbox; too large a rest ends the connection."""
        if not self.flush() and self._outbox.size > self._max_outbox:
            self.overflow()

    def _send_or_queue(self, parts: list[BytesLike]) -> None:
        """Send what the kernel takes of a frame; the rest goes out before anything else."""
        for number, part in enumerate(parts):
            try:
                sent = self._transport.try_send(part)
            except (OSError, ValueError):
                self._state.lose(LOST_WHILE_SENDING)
                return
            if sent < len(part):
                self._outbox.put_back(memoryview(part)[sent:], *parts[number + 1 :])
                return

    # Messages for many connections

    def send_shared(self, message: SharedMessage) -> bool:
        """Send a message for many without waiting; must be called in the home thread.

        What the kernel does not take goes to the outbox. A closed connection gets nothing.

        :return: ``False`` if too much waits there now: :meth:`overflow` must follow.
        """
        state, writing, held = self._state, self.writing, False
        try:
            for held in self._attempts:
                break
            if held and state.sent_close is None and state.close_code is None:
                # Within the lock: a compressed message builds on the one sent before it.
                frame = self._protocol.send_shared(message)
                if self._outbox.frames:
                    self.queue([frame])
                else:
                    self._send_or_queue([frame])
                self.messages_sent += 1
        except BaseException:
            if held:
                self._lose_track()
            raise
        finally:
            if held:
                writing.release()
        if held:
            if not self._outbox.frames:
                return True
            # What waits, and what other threads have queued meanwhile.
        # Not compressed: what is being sent just now may have changed the compressor's history.
        elif self.queue([message.plain]):
            self.messages_sent += 1
        self.flush()
        return self._outbox.size <= self._max_outbox

    def queue_shared(self, message: SharedMessage) -> bool:
        """Put a message for many into the outbox; :meth:`flush` must follow.

        Otherwise as :meth:`send_shared`.
        """
        outbox = self._outbox
        if message.worth_deflating and self._protocol.deflates:
            self._queue_deflated(message)
        elif self._state.close_code is None and outbox.append(message.plain):
            # As _queue_shared() does, which would be called for each of many connections.
            self.messages_sent += 1
        if outbox.size > self._max_outbox:
            self.flush()
            return outbox.size <= self._max_outbox
        return True

    def _queue_deflated(self, message: SharedMessage) -> None:
        held = False
        try:
            for held in self._attempts:
                break
            self._queue_shared(self._protocol.send_shared(message) if held else message.plain)
        except BaseException:
            if held:
                self._lose_track()
            raise
        finally:
            if held:
                self.writing.release()

    def offer_shared(self, message: SharedMessage, *, now: bool) -> bool:
        """Send a message for many, if there is room; otherwise as the two above.

        :param now: whether it is to be flushed.
        :return: ``False`` if the peer reads too slowly for it.
        """
        if not self._has_room(message):
            self.flush()
            if not self._has_room(message):
                return False
        if now:
            self.send_shared(message)
        else:
            self.queue_shared(message)
        return True

    def _has_room(self, message: SharedMessage) -> bool:
        size, most = self._outbox.size, self._max_outbox
        return size + len(message.plain) <= (most * OFFERED if size else most)

    def send_latest(self, message: SharedMessage, slot: Slot, *, now: bool) -> bool:
        """Send a message for many, in place of one in the same slot that has not been sent.

        Otherwise as :meth:`send_shared`, and where it is not to be flushed as
        :meth:`queue_shared`.

        :param now: whether it is to be flushed.
        :return: whether it is sent in place of another.
        """
        writing, held = self.writing, False
        try:
            if message.worth_deflating and self._protocol.deflates:
                for held in self._attempts:
                    break
            frame = self._protocol.send_shared(message) if held else message.plain
            if not self._state.connected:
                return False
            is_other = self._outbox.put(slot, frame)
        except BaseException:
            if held:
                self._lose_track()
            raise
        finally:
            if held:
                writing.release()
        if not is_other:
            self.messages_sent += 1
            if now:
                self.flush()
        return is_other

    def _queue_shared(self, frame: bytes) -> None:
        if self._state.close_code is None and self._outbox.append(frame):
            self.messages_sent += 1

    # Pings and pongs

    def post_ping(self) -> None:
        """Send a ping without waiting."""
        if self._state.connected:
            self.post(self._protocol.send_ping())

    def answer_ping(self, payload: bytes) -> None:
        """Send a pong, unless an earlier one, or too much else, waits for the peer to read.

        A pong for each ping is not required (RFC 6455 section 5.5.3).
        """
        outbox = self._outbox
        waits = self._pong is not None and outbox.holds(self._pong)
        if self._state.sent_close is None and not waits and outbox.size < PONG_LIMIT:
            (self._pong,) = buffers = self._protocol.send_pong(payload)
            self.post(buffers)


def cut(parts: list[BytesLike], taken: int) -> list[BytesLike]:
    """Return what follows the first ``taken`` bytes; later changes to the parts do not reach it."""
    rest: list[BytesLike] = []
    for part in parts:
        if taken < len(part):
            view = memoryview(part)[taken:]
            rest.append(view if isinstance(view.obj, bytes) else bytes(view))
        taken = max(0, taken - len(part))
    return rest
