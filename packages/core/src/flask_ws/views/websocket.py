"""The object that a handler talks to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ..channels.channels import Channels
from ..channels.results import Subscription
from ..connection.connection import Connection
from ..connection.endpoint import Endpoint, JSONProvider, check_close
from ..options import Options
from ..protocol.close_codes import NORMAL_CLOSURE
from ..protocol.frames import BytesLike
from .identity import Identified
from .presence import Presence

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["EventWebSocket", "WebSocket", "read_close"]


class WebSocket(Presence, Identified, Endpoint):
    """A client's WebSocket connection.

    A handler gets it as its first argument; it is never made by hand. ``for message in ws``
    receives messages until the connection is closed.

    Its ``environ`` is that of the request, ``subprotocol`` the one that was agreed on;
    ``close_code`` is ``None`` while the connection is open, then the close code (RFC 6455 section
    7.4), and ``close_reason`` the text that came with it. A handler may keep attributes of its
    own on it.

    :param connection: the connection.
    :param environ: the WSGI environ of the request that opened the connection.
    :param subprotocol: the subprotocol that was agreed on, or ``None``.
    :param provider: reads and writes JSON.
    :param channels: the app's channels.
    :param max_subscriptions: how many of them it may be subscribed to.
    :param max_joins: of how many of them it may be a member.
    :param max_info: how many bytes others may be told of it as a member.
    :param identity: who the client is.
    """

    # Python makes the ``__dict__`` only when a handler sets an attribute.
    __slots__ = (
        "__dict__",
        "_channels",
        "_closed_by",
        "_deadline",
        "_identity",
        "_max_info",
        "_max_joins",
        "_max_subscriptions",
        "_recheck",
        "environ",
        "subprotocol",
    )

    def __init__(
        self,
        connection: Connection,
        *,
        environ: WSGIEnvironment,
        subprotocol: str | None,
        provider: JSONProvider,
        channels: Channels,
        max_subscriptions: int = Options.max_subscriptions,
        max_joins: int = Options.presence_max_joins,
        max_info: int = Options.presence_max_info,
        identity: str | None = None,
    ) -> None:
        super().__init__(connection, provider=provider)
        #: The WSGI environ of the request that opened the connection.
        self.environ = environ
        #: The subprotocol that was agreed on, or ``None``.
        self.subprotocol = subprotocol
        self._channels = channels
        # The thread that has called close().
        self._closed_by: int | None = None
        self._max_subscriptions = max_subscriptions
        self._max_joins, self._max_info = max_joins, max_info
        self._identity = identity
        self._deadline = self._recheck = None

    def close(
        self, code: int = NORMAL_CLOSURE, reason: str = "", message: str | None = None
    ) -> None:
        """Close the connection with a closing handshake (RFC 6455 section 7); any thread may.

        Waits up to ``close_timeout`` seconds for the peer's close frame, and discards what comes
        before it. Does nothing on a closed connection.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :param message: the text, in code written for flask-sock: there, ``reason`` is the code.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        self._closed_by = threading.get_ident()
        super().close(*read_close(code, reason, message))

    if not TYPE_CHECKING:

        def __aiter__(self) -> NoReturn:
            raise TypeError(
                "A blocking WebSocket is received from with: for message in ws, without async"
            )

    def subscribe(
        self,
        channel: str,
        *,
        since: str | None = None,
        gap: str | BytesLike | None = None,
        overflow: Literal["close", "latest", "drop"] = "close",
    ) -> Subscription:
        """Receive what is published on a channel from now on, until the connection ends.

        Its messages go straight to the client (see :meth:`Sock.publish`). To subscribe twice is
        to subscribe once. One channel more than ``SOCK_MAX_SUBSCRIPTIONS`` closes the connection
        with 1008.

        Where the channel has a history (``SOCK_HISTORY``), the client can first be sent what it
        has missed, in order, and each message once. What does not fit into ``SOCK_MAX_OUTBOX``
        closes the connection with 1013, unless ``overflow`` says something else.

        :param channel: the channel's name, any text; it need not exist.
        :param since: the position up to which the client has the messages, as :meth:`Sock.publish`
            or an earlier subscription has told it; ``"all"`` for everything that is kept. A text
            that is no position is a gap.
        :param gap: a message that the client is sent where messages are missing: before those
            that could be recovered, or later, should the broker lose some.
        :param overflow: what becomes of messages for which the client reads too slowly.
            ``"close"`` closes the connection with 1013, when ``SOCK_MAX_OUTBOX`` bytes wait for
            it. ``"latest"`` sends only the newest of those that have not been sent: for the state
            of something, such as a cursor. ``"drop"`` does not send what would fill more than a
            quarter of ``SOCK_MAX_OUTBOX``; the ``gap`` message, if there is one, is sent before
            the next that fits. The connection's other messages are not concerned.
        :return: the channel's position now, and whether all that came after ``since`` is sent. Its
            ``dropped`` counts the messages that were not sent.
        :raises ConnectionClosed: the connection is closed.
        :raises TypeError: ``since`` is no text, or ``gap`` no message.
        :raises ValueError: the name is empty, longer than 255 bytes of UTF-8, or has a lone
            surrogate, as a client's JSON may; or ``overflow`` is something else.
        """
        return self._subscribe(channel, since=since, gap=gap, overflow=overflow)

    def _subscribe(self, channel: str, **options: Any) -> Subscription:
        # Set before the subscription exists, so that its end is never missed.
        self._connection.when_released = self._channels.forget
        return super()._subscribe(channel, **options)

    def unsubscribe(self, channel: str) -> None:
        """Receive no more of a channel. Does nothing if there is no subscription.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        self._channels.unsubscribe(self._connection, channel)


class EventWebSocket(WebSocket):
    """The connection of an event view: nothing here waits."""

    __slots__ = ()

    def send(self, data: str | BytesLike) -> None:
        """Send a message without waiting: what a slow client does not read is queued.

        :param data: as for :meth:`WebSocket.send`.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: ``data`` is something else.
        """
        self._connection.sender.send_nowait(data)

    def receive(self, timeout: float | None = None) -> Any:
        """Refuse: ``on_message`` gets the messages.

        :raises RuntimeError: always.
        """
        raise RuntimeError("An event view gets its messages in on_message(); it cannot receive().")

    def __iter__(self) -> Any:
        """Refuse, as :meth:`receive`.

        :raises RuntimeError: always.
        """
        return self.receive()

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping without waiting; otherwise as :meth:`WebSocket.ping`."""
        self._connection.sender.send_nowait(b"", ping=payload)

    def close(
        self, code: int = NORMAL_CLOSURE, reason: str = "", message: str | None = None
    ) -> None:
        """Send a close frame without waiting; the connection ends when the peer has answered.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :param message: as for :meth:`WebSocket.close`.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        code, reason = read_close(code, reason, message)
        check_close(code, reason)
        self._closed_by = threading.get_ident()
        self._connection.close_nowait(code, reason)


def read_close(code: int, reason: Any, message: str | None) -> tuple[int, Any]:
    """Return the code and the reason, from arguments as flask-sock or flask-ws has them."""
    if code == NORMAL_CLOSURE and isinstance(reason, int):
        code, reason = reason, ""
    return code, reason if message is None else message
