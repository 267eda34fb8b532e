"""The object that a handler talks to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..channels.channels import Channels
from ..connection.connection import NORMAL_CLOSURE, Connection, check_close
from ..connection.sender import keep
from ..loop.cork import ENOUGH, corks
from ..protocol.frames import BytesLike

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["EventWebSocket", "WebSocket"]

#: The part of a message that is not JSON which an exception shows.
SHOWN_LENGTH = 80


class WebSocket(Connection):
    """A client's WebSocket connection.

    A handler gets it as its first argument; it is never made by hand. ``for message in ws``
    receives messages until the connection is closed.

    Its ``environ`` is that of the request, ``subprotocol`` the one that was agreed on;
    ``close_code`` is ``None`` while the connection is open, then the close code (RFC 6455 section
    7.4), and ``close_reason`` the text that came with it. A handler may keep attributes of its
    own on it.

    :param environ: the WSGI environ of the request that opened the connection.
    :param subprotocol: the subprotocol that was agreed on, or ``None``.
    :param dumps: writes JSON.
    :param loads: reads JSON.
    :param channels: the app's channels.
    """

    # The dictionary is made when a handler keeps something here.
    __slots__ = ("__dict__", "_channels", "_dumps", "_loads", "environ", "subprotocol")

    def __init__(
        self,
        *args: Any,
        environ: WSGIEnvironment,
        subprotocol: str | None,
        dumps: Callable[..., str],
        loads: Callable[[str | bytes], Any],
        channels: Channels,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        #: The WSGI environ of the request that opened the connection.
        self.environ = environ
        #: The subprotocol that was agreed on, or ``None``.
        self.subprotocol = subprotocol
        self._dumps = dumps
        self._loads = loads
        self._channels = channels

    def send_json(self, data: Any, **kwargs: Any) -> None:
        """Send ``data`` as JSON, in a text message.

        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param kwargs: passed on to the provider's ``dumps``.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: the provider cannot write it.
        """
        self.send(dump(self._dumps, data, kwargs))

    def receive_json(self, timeout: float | None = None) -> Any:
        """Receive the next message, and read it as JSON by the app's JSON provider.

        :param timeout: as for :meth:`receive`.
        :return: the value, or ``None`` when the time is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises ValueError: the message is not JSON.
        """
        message = self.receive(timeout)
        return None if message is None else load(self._loads, message)

    def close(
        self, code: int = NORMAL_CLOSURE, reason: str = "", message: str | None = None
    ) -> None:
        """Close the connection with a closing handshake (RFC 6455 section 7); any thread may.

        Waits up to ``close_timeout`` seconds for the peer's answer, and drops what it sends
        before that. Does nothing on a closed connection.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :param message: the text, in code written for flask-sock: there, ``reason`` is the code.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        super().close(*_read_close(code, reason, message))

    def subscribe(self, channel: str) -> None:
        """Receive what is published on a channel from now on, until the connection ends.

        Its messages go straight to the client (see :meth:`Sock.publish`). To subscribe twice is
        to subscribe once.

        :param channel: the channel's name, any text; it need not exist.
        :raises ConnectionClosed: the connection is closed.
        :raises ValueError: the name is empty.
        """
        alone = not self.environ.get("wsgi.multiprocess")
        self._channels.subscribe(self, channel, alone=alone)

    def unsubscribe(self, channel: str) -> None:
        """Receive no more of a channel. It does nothing where there is no subscription.

        :param channel: the channel's name.
        :raises ValueError: the name is empty.
        """
        self._channels.unsubscribe(self, channel)

    def release(self) -> None:
        """Close the socket, and end the subscriptions."""
        # Once it is closed, it cannot subscribe again.
        self.lose("the connection was dropped")
        self._channels.forget(self)
        super().release()

    def __repr__(self) -> str:
        path = self.environ.get("PATH_INFO", "")
        state = "open" if self.connected else f"closed {self.close_code or ''}".strip()
        return f"<{type(self).__name__} {path} {state}>"


def dump(dumps: Callable[..., str], data: Any, kwargs: dict[str, Any]) -> str:
    """Write a value as JSON.

    :raises TypeError: JSON has no such value, and the provider does not know how to write it.
    """
    try:
        return dumps(data, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"{error}. Send dictionaries, lists, str, numbers, bool and None, or let the app's "
            "JSON provider write it (flask.Flask.json)."
        ) from None


def load(loads: Callable[[str | bytes], Any], message: str | bytes) -> Any:
    """Read a message as JSON.

    :raises ValueError: it is none.
    """
    try:
        return loads(message)
    except ValueError as error:
        more = "..." if len(message) > SHOWN_LENGTH else ""
        raise ValueError(
            f"The message is not JSON: {message[:SHOWN_LENGTH]!r}{more} ({error}). Catch "
            "ValueError where a peer may send such."
        ) from None


class EventWebSocket(WebSocket):
    """The connection of an event view: nothing here waits.

    :param at: calls a function at a time.
    """

    __slots__ = ("_at", "_dropping", "_pinged", "unattended")

    def __init__(
        self,
        *args: Any,
        at: Callable[[float, Callable[[], object]], object],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._at = at
        #: Whether a method of the view runs, or is about to: others may read meanwhile.
        self.unattended = True
        # Whether the view has closed the connection, and wants no more messages.
        self._dropping = False
        # How much had been received when a ping went out.
        self._pinged = -1

    def receive(self, timeout: float | None = None) -> Any:
        """Refuse: ``on_message`` gets the messages.

        :raises RuntimeError: always.
        """
        raise RuntimeError("An event view gets its messages in on_message(); it cannot receive().")

    def close(
        self, code: int = NORMAL_CLOSURE, reason: str = "", message: str | None = None
    ) -> None:
        """Send a close frame; the connection ends when the peer has answered.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :param message: as for :meth:`WebSocket.close`.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        code, reason = _read_close(code, reason, message)
        check_close(code, reason)
        if not self.connected:
            return
        self._dropping = True
        self.go_away(code, reason)
        self._at(
            time.monotonic() + self._close_timeout,
            lambda: self.lose("the peer did not answer the close frame"),
        )

    def _write(self, encode: Callable[..., list[BytesLike]], data: object, count: int) -> None:
        with self._writing:
            if self.close_code is not None or self._sent_close is not None:
                raise self._error()
            # Within the lock: a compressed message builds on the one sent before it.
            buffers = encode(data)
            cork = corks.current
            if self._outbox.frames or cork is not None:
                if not self._queue(buffers):
                    raise self._error()
            else:
                self._send_or_queue(keep(buffers))
            self.messages_sent += count
        if cork is not None and self._outbox.size < ENOUGH:
            cork.hold(self)
        elif self._outbox.frames:
            # What the kernel did not take, and what others have left to this thread meanwhile.
            self.send_held()

    def send_held(self) -> None:
        """Send what the kernel takes of what waits; too much of that ends the connection."""
        if not self.flush() and self._outbox.size > self._max_outbox:
            self._overflow()

    def _begin_lingering(self) -> None:
        super()._begin_lingering()
        assert self.linger_until is not None
        self._at(self.linger_until, self._transport.abort)

    # For whoever sees that the socket is readable

    def next_message(self, *, read: bool = False, wait: bool = False) -> str | bytes | None:
        """Return the next message of what was read, and do what other frames ask for.

        :param read: whether to read once, first.
        :param wait: whether to wait for something to read.
        """
        with self._reading:
            self.unattended = True
            while self._messages:
                # What came while a method of the view ran.
                message = self._messages.popleft()
                if not self._dropping:
                    return message
            protocol = self._protocol
            event = None
            if read:
                try:
                    event = self._read(None if wait else 0)
                except TimeoutError:
                    # Another thread has read it.
                    pass
            while True:
                if type(event) is bytes or type(event) is str:
                    if self._sent_close is None:
                        self.messages_received += 1
                        return event
                elif event is not None:
                    self._handle(event)
                if self.close_code is not None or protocol.drained:
                    break
                event = protocol.next_event()
                if event is None:
                    break
            # From here on nobody but the caller reads.
            self.unattended = False
            return None

    @property
    def has_more(self) -> bool:
        """Whether another message may be at hand."""
        return not self._protocol.drained or bool(self._messages)

    def discard(self, *, wait: bool) -> bool:
        """Read once, and drop it; ``False`` at the end of the stream."""
        try:
            return (self._transport.recv() if wait else self._transport.try_recv()) != b""
        except (OSError, ValueError):
            return False

    # For the monitor

    def service(self) -> None:
        """Read what is there while a method of the view runs: never waits."""
        if self._outbox.frames:
            self.flush()
        if self.unattended and self._reading.acquire(False):
            try:
                if self.unattended:
                    self._pump()
            finally:
                self._reading.release()

    def post_ping(self) -> None:
        """Send a ping without waiting."""
        self._pinged = self.bytes_received
        super().post_ping()

    @property
    def is_backed_up(self) -> bool:
        """Whether the peer has sent what nobody has had the time to read: its pong, perhaps."""
        if super().is_backed_up:
            return True
        return self._pinged == self.bytes_received and self._transport.is_readable()


def _read_close(code: int, reason: Any, message: str | None) -> tuple[int, Any]:
    """Return the code and the reason, which keyword arguments of flask-sock's may name."""
    if code == NORMAL_CLOSURE and isinstance(reason, int):
        code, reason = reason, ""
    return code, reason if message is None else message
