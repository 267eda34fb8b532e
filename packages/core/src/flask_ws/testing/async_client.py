"""The WebSocket client for tests, awaited: for tests that are async functions.

Each call runs the method of :class:`ClientWebSocket` on a thread. So it works on every event loop:
with pytest-asyncio, and with anyio on asyncio and on Trio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from flask_ws.connection.endpoint import read_json
from flask_ws.exceptions import ConnectionClosed
from flask_ws.protocol.close_codes import NORMAL_CLOSURE
from flask_ws.protocol.frames import BytesLike

from .client import ClientWebSocket, raise_with_own_context
from .connecting import TIMEOUT, Connecting, connect

if TYPE_CHECKING:
    import flask
    from werkzeug.datastructures import Headers
    from werkzeug.test import Client, TestResponse

__all__ = ["AsyncClientWebSocket", "aconnect"]

T = TypeVar("T")
Future = concurrent.futures.Future


class AsyncClientWebSocket:
    """The client's end of a connection that :func:`aconnect` opened.

    It has what :class:`ClientWebSocket` has, to be awaited. ``async for message in ws`` receives
    messages until the connection is closed. A call that is cancelled loses no message.
    """

    def __init__(self, ws: ClientWebSocket) -> None:
        self._ws = ws
        #: The answer to the handshake, of status 101.
        self.response: TestResponse = ws.response
        #: The subprotocol that was agreed on, or ``None``.
        self.subprotocol: str | None = ws.subprotocol
        # What a cancelled receive() has left behind, and whether a task is in receive().
        self._left: Future[str | bytes | None] | None = None
        self._receiving = False

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self._ws.connected

    @property
    def close_code(self) -> int | None:
        """The close code (RFC 6455 section 7.1.5) once the connection is closed, else ``None``."""
        return self._ws.close_code

    @property
    def close_reason(self) -> str:
        """The reason that came with it."""
        return self._ws.close_reason

    @overload
    async def receive(self, timeout: None = None) -> str | bytes: ...

    @overload
    async def receive(self, timeout: float | None) -> str | bytes | None: ...

    async def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Receive the next message; one task at a time.

        :param timeout: seconds to wait for it; 0 takes what is there.
        :return: ``str`` for a text message, ``bytes`` for a binary one, ``None`` when the time
            is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises TimeoutError: no ``timeout`` was given, and no message came within that of
            :func:`aconnect`.
        :raises RuntimeError: another task is in ``receive()`` already.
        """
        if self._receiving:
            raise RuntimeError("Another task is in receive() on this connection.")
        self._receiving = True
        try:
            if self._left is not None:
                left = self._left
                await finished(begin(concurrent.futures.wait, [left], timeout))
                if not left.done():
                    return None
                self._left = None
                if (message := left.result()) is not None:
                    return message
            future = self._left = begin(self._ws.receive, timeout)
            # Cancelled here, the next call gets the message.
            await finished(future)
            self._left = None
            return future.result()
        finally:
            self._receiving = False

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Receive messages until the connection is closed, each within the timeout."""
        return self

    async def __anext__(self) -> str | bytes:
        """Receive the next message."""
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def receive_json(self, timeout: float | None = None) -> Any:
        """Receive the next message, and read it as JSON by the app's JSON provider.

        :param timeout: as for :meth:`receive`.
        :return: the value, or ``None`` when the time is up.
        :raises ValueError: the message is not JSON, or nested too deeply.
        """
        message = await self.receive(timeout)
        return None if message is None else read_json(self._ws._provider, message)

    async def send(self, data: str | BytesLike) -> None:
        """Send a message.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TimeoutError: the app does not read.
        """
        await in_thread(self._ws.send, data)

    async def send_json(self, data: Any, **kwargs: Any) -> None:
        """Send ``data`` as JSON, in a text message.

        :param data: what the app's JSON provider can write.
        :param kwargs: passed on to the provider's ``dumps``.
        """
        await in_thread(self._ws.send_json, data, **kwargs)

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping.

        :param payload: up to 125 bytes, which come back in the pong.
        """
        await in_thread(self._ws.ping, payload)

    async def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection with a closing handshake.

        :param code: the close code to send.
        :param reason: a text to go with it.
        """
        await in_thread(self._ws.close, code, reason)

    async def advance(self, seconds: float, *, silent: bool = False) -> None:
        """Have time pass for the connection, without waiting: :meth:`ClientWebSocket.advance`.

        :param seconds: how much time.
        :param silent: whether to leave pings without an answer, as a client that is gone does.
        """
        await in_thread(self._ws.advance, seconds, silent=silent)

    async def drop(self) -> None:
        """Lose the connection, without a close frame: the app sees 1006."""
        await in_thread(self._ws.drop)

    def __repr__(self) -> str:
        return repr(self._ws)


class AsyncConnecting:
    """What :func:`aconnect` returns: the connection is open within the ``async with`` block."""

    def __init__(self, connecting: Connecting) -> None:
        self._connecting = connecting

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"aconnect() opens a connection in an async with statement: async with "
                f"aconnect(...) as ws, then ws.{name}."
            )

    async def __aenter__(self) -> AsyncClientWebSocket:
        """Open the connection.

        :raises HandshakeRefused: the app did not answer 101.
        """
        future = begin(self._connecting.__enter__)
        try:
            await finished(future)
        except BaseException:
            # Nobody gets the connection.
            future.add_done_callback(drop)
            raise
        return AsyncClientWebSocket(future.result())

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection, and raise what its handler raised."""
        future = begin(self._connecting.__exit__, exc_type, exc, traceback)
        await finished(future)
        error = future.exception()
        if error is not None:
            raise_with_own_context(error)


def aconnect(
    app_or_client: flask.Flask | Client,
    path: str,
    *,
    headers: Headers | Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    subprotocols: str | Iterable[str] = (),
    compression: bool = True,
    timeout: float = TIMEOUT,
    **kwargs: Any,
) -> AsyncConnecting:
    """Open a WebSocket connection to an app in a test that is an async function.

    ::

        async def test_echo():
            async with aconnect(app, "/echo") as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"

    The routes may be of any kind. Otherwise it is :func:`connect`, on any event loop: that of
    pytest-asyncio, or that of anyio, which may be Trio's.

    :param app_or_client: the app, or a test client of it, whose cookies and session are used.
    :param path: the path, or a URL.
    :param headers: headers to send besides those of a handshake, or in their place.
    :param subprotocols: the subprotocols to offer.
    :param compression: whether to offer permessage-deflate, as browsers do.
    :param timeout: seconds to wait for anything, before the test fails.
    :param kwargs: further arguments of the client's ``open()``, such as ``query_string`` and
        ``base_url``.
    :return: an async context manager for an :class:`AsyncClientWebSocket`.
    :raises HandshakeRefused: when the block is entered: the app did not answer 101.
    :raises TypeError: ``app_or_client`` is neither.
    """
    return AsyncConnecting(
        connect(
            app_or_client,
            path,
            headers=headers,
            subprotocols=subprotocols,
            compression=compression,
            timeout=timeout,
            **kwargs,
        )
    )


def begin(function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Call a function on a thread, in a copy of the current context variables."""
    future: Future[T] = Future()
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="flask_ws.testing", daemon=True).start()
    return future


async def finished(future: Future[Any]) -> None:
    """Wait until a call has finished; it goes on where this is cancelled."""
    # Whoever waits may be gone, and its loop closed, when the call has finished.
    if asyncio._get_running_loop() is not None:
        loop, waiter = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(waiter.set)

        future.add_done_callback(wake)
        await waiter.wait()
        return
    # It is imported: its loop is the one that runs.
    trio: Any = sys.modules["trio"]
    token, event = trio.lowlevel.current_trio_token(), trio.Event()

    def wake_trio(_: object) -> None:
        with contextlib.suppress(RuntimeError):
            token.run_sync_soon(event.set)

    future.add_done_callback(wake_trio)
    await event.wait()


async def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function on a thread, and return what it returns."""
    future = begin(function, *args, **kwargs)
    await finished(future)
    return future.result()


def drop(opened: Future[ClientWebSocket]) -> None:
    """End a connection that was opened for nobody."""
    if opened.exception() is None:
        begin(opened.result().__exit__, None, None, None)
