"""The object that an async handler talks to."""

from __future__ import annotations

import asyncio
import logging
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from ..channels.channels import Channels
from ..channels.results import Subscription
from ..connection.async_connection import AsyncConnection
from ..connection.endpoint import JSONProvider, read_json, write_json
from ..loop.broker_threads import call_beside
from ..protocol.close_codes import NORMAL_CLOSURE
from ..protocol.frames import BytesLike
from .identity import Identified
from .presence import AsyncPresence
from .websocket import read_close

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["AsyncEventWebSocket", "AsyncWebSocket", "this_task"]

logger = logging.getLogger("flask_ws")

T = TypeVar("T")

NOBODY_AWAITS = (
    "%s: ws.%s() of an async handler was called in a thread, and nobody has awaited it: "
    "asyncio.run_coroutine_threadsafe(ws.%s(...), ws.loop) does; or publish to a channel that the "
    "connection is subscribed to."
)


class AsyncWebSocket(AsyncPresence, Identified):
    """A client's WebSocket connection, in an async handler.

    A handler gets it as its first argument; it is never made by hand. ``async for message in ws``
    receives messages until the connection is closed.

    It is what :class:`WebSocket` is, awaited: with the same names, arguments and errors. Any task
    of the handler may use it; so may a task on another asyncio loop, such as that of an async
    view. A call that is cancelled, or runs into a timeout, does the connection no harm: a message
    is sent whole or not at all, and none that has arrived is lost.

    A handler may keep attributes of its own on it.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_channels",
        "_closed_by",
        "_connection",
        "_deadline",
        "_identity",
        "_max_info",
        "_max_joins",
        "_max_subscriptions",
        "_provider",
        "_recheck",
        "environ",
        "loop",
        "subprotocol",
    )

    def __init__(
        self,
        connection: AsyncConnection,
        *,
        loop: asyncio.AbstractEventLoop,
        environ: WSGIEnvironment,
        subprotocol: str | None,
        provider: JSONProvider,
        channels: Channels,
        max_subscriptions: int,
        max_joins: int,
        max_info: int,
        identity: str | None = None,
    ) -> None:
        self._connection: AsyncConnection = connection
        #: The asyncio loop on which the handlers of the process run.
        self.loop = loop
        #: The WSGI environ of the request that opened the connection.
        self.environ = environ
        #: The subprotocol that was agreed on, or ``None``.
        self.subprotocol = subprotocol
        self._provider = provider
        self._channels = channels
        # The task that has called close().
        self._closed_by: int | None = None
        self._max_subscriptions = max_subscriptions
        self._max_joins, self._max_info = max_joins, max_info
        self._identity = identity
        self._deadline = self._recheck = None

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self._connection.connected

    @property
    def close_code(self) -> int | None:
        """The close code (RFC 6455 section 7.1.5) once the connection is closed, else ``None``."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str:
        """The reason that came with it."""
        return self._connection.close_reason

    # Plain functions that make a coroutine: so one that is made by mistake, and never awaited, can
    # be logged.

    @overload
    def receive(self, timeout: None = None) -> Coroutine[Any, Any, str | bytes]: ...

    @overload
    def receive(self, timeout: float | None) -> Coroutine[Any, Any, str | bytes | None]: ...

    def receive(self, timeout: float | None = None) -> Coroutine[Any, Any, str | bytes | None]:
        """Receive the next message; one task at a time.

        :param timeout: seconds to wait for it; 0 takes what is there; ``None``, the default,
            waits for as long as the connection lives.
        :return: ``str`` for a text message, ``bytes`` for a binary one, ``None`` when the time
            is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises RuntimeError: another task is in ``receive()`` already.
        """
        return self._here("receive", self._connection.receive(timeout))

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Receive messages until the connection is closed, by whomever and for whatever reason."""
        return self

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:
        """Receive the next message."""
        connection = self._connection
        # By position, which is quicker.
        coroutine = connection.receive(None, True)
        return coroutine if get_ident() == connection.thread else self._here("receive", coroutine)

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            raise TypeError("In an async handler, receive with: async for message in ws")

    def send(self, data: str | BytesLike) -> Coroutine[Any, Any, None]:
        """Send a message (RFC 6455 section 5.6); waits while the peer is slow to read.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: ``data`` is something else.
        """
        connection = self._connection
        coroutine = connection.send(data)
        return coroutine if get_ident() == connection.thread else self._here("send", coroutine)

    def ping(self, payload: bytes = b"") -> Coroutine[Any, Any, None]:
        """Send a ping (RFC 6455 section 5.5.2).

        There is seldom a need for it: flask-ws does so by itself, see ``SOCK_PING_INTERVAL``.

        :param payload: up to 125 bytes, which come back in the pong.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises ValueError: ``payload`` is too long.
        """
        return self._here("ping", self._connection.ping(payload))

    def close(
        self, code: int = NORMAL_CLOSURE, reason: str = "", message: str | None = None
    ) -> Coroutine[Any, Any, None]:
        """Close the connection with a closing handshake (RFC 6455 section 7).

        Waits up to ``close_timeout`` seconds for the peer's answer, and drops what it sends
        before that. Does nothing on a closed connection.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :param message: as for :meth:`WebSocket.close`.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        self._closed_by = this_task()
        return self._here("close", self._connection.close(*read_close(code, reason, message)))

    async def send_json(self, data: Any, **kwargs: Any) -> None:
        """Send ``data`` as JSON, in a text message.

        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param kwargs: passed on to the provider's ``dumps``.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: the provider cannot write it.
        """
        await self.send(write_json(self._provider, data, kwargs))

    async def receive_json(self, timeout: float | None = None) -> Any:
        """Receive the next message, and read it as JSON by the app's JSON provider.

        :param timeout: as for :meth:`receive`.
        :return: the value, or ``None`` when the time is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises ValueError: the message is not JSON, or nested too deeply.
        """
        message = await self.receive(timeout)
        return None if message is None else read_json(self._provider, message)

    async def subscribe(
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

        :param channel: the channel's name, any text; it need not exist.
        :param since: the position up to which the client has the messages, or ``"all"``, as for
            :meth:`WebSocket.subscribe`.
        :param gap: a message that the client is sent where messages are missing.
        :param overflow: what becomes of messages for which the client reads too slowly:
            ``"close"``, ``"latest"`` or ``"drop"``, as for :meth:`WebSocket.subscribe`.
        :return: the channel's position now, and whether all that came after ``since`` is sent.
        :raises ConnectionClosed: the connection is closed.
        :raises ValueError: the name is empty, longer than 255 bytes of UTF-8, or has a lone
            surrogate, as a client's JSON may; or ``overflow`` is something else.
        """
        return await self._beside(self._subscribe, channel, since=since, gap=gap, overflow=overflow)

    async def unsubscribe(self, channel: str) -> None:
        """Receive no more of a channel. It does nothing where there is no subscription.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        await self._beside(self._channels.unsubscribe, self._connection, channel)

    async def _beside(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call what may wait for the broker, on a thread."""
        if self._channels.is_local:
            return function(*args, **kwargs)
        return await call_beside(function, *args, **kwargs)

    def _here(self, name: str, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Let a coroutine run on the connection's loop, wherever it is awaited."""
        if get_ident() == self._connection.thread:
            return coroutine
        running = _get_running_loop()
        if running is self.loop:
            return coroutine
        if running is None:
            return _Handed(coroutine, self.loop, self._connection.label, name)
        return _elsewhere(coroutine, self.loop)


class AsyncEventWebSocket(AsyncWebSocket):
    """The connection of an async event view."""

    __slots__ = ()

    def receive(self, timeout: float | None = None) -> Any:
        """Refuse: ``on_message`` gets the messages.

        :raises RuntimeError: always.
        """
        raise RuntimeError("An event view gets its messages in on_message(); it cannot receive().")

    def __anext__(self) -> Any:
        """Refuse, as :meth:`receive`.

        :raises RuntimeError: always.
        """
        return self.receive()


class _Handed(Coroutine[Any, Any, T]):
    """A coroutine that was made in a thread without a loop: for any loop, or by mistake."""

    __slots__ = ("_begun", "_coroutine", "_label", "_loop", "_name")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        loop: asyncio.AbstractEventLoop,
        label: str,
        name: str,
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._label = label
        self._name = name
        self._begun = False

    def send(self, value: Any, /) -> Any:
        if not self._begun:
            self._begun = True
            if _get_running_loop() is not self._loop:
                self._coroutine = _elsewhere(self._coroutine, self._loop)
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        self._begun = True
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._begun = True
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        value = None
        while True:
            try:
                value = yield self.send(value)
            except StopIteration as end:
                result: T = end.value
                return result

    def __del__(self) -> None:
        if not self._begun:
            self._coroutine.close()
            logger.warning(NOBODY_AWAITS, self._label, self._name, self._name)


async def _elsewhere(coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


def this_task() -> int | None:
    """Return what tells the task that runs from others; ``None`` where there is none."""
    return None if _get_running_loop() is None else id(asyncio.current_task())
