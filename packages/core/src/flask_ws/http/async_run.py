"""What runs on an async connection, on the loop: from its transport to the end of its handler.

It holds nothing of the handshake and of the server's request but what is needed to the end: there
are many such connections, and most of them are idle.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..concurrency import threads
from ..connection.async_connection import AsyncConnection
from ..connection.tls import TLSTransport
from ..connection.tls_stream import TLSStream
from ..exceptions import ConnectionClosed
from ..identity.recheck import rechecks_for
from ..live.view import direct_to
from ..loop.asyncio_loop import AsyncioLoop
from ..loop.broker_threads import call_beside
from ..loop.watchdog import watchdog_for
from ..protocol.close_codes import GOING_AWAY, INTERNAL_ERROR, NORMAL_CLOSURE
from ..views.advice import (
    SessionWatch,
    check_result,
    explain_exception,
    explain_foreign_end,
    explain_late_send,
    is_closed,
    log_cancelled,
    log_swallowed,
    name_of,
)
from ..views.async_conversation import AsyncConversation
from ..views.async_websocket import AsyncWebSocket, this_task
from ..views.context import tear_down
from ..whereabouts import line_of
from .upgrade import Upgrade

__all__ = ["AsyncRun"]

logger = logging.getLogger("flask_ws")

#: The least seconds until what was cancelled is looked at again.
LEAST = 0.5
#: The variables of a URL that has none: one object for all connections.
NO_VARIABLES: dict[str, Any] = {}


class AsyncRun:
    """A handler, or an event view, on its connection; used on the loop's thread only.

    :param upgrade: the handshake that was accepted.
    :param loop: the loop.
    :param connection: the connection, which has no transport yet.
    :param ws: what the handler is given.
    :param sock: the socket, plain or with TLS; ``None`` where the server frames messages.
    :param report: reports an exception of the handler.
    :param converse: makes the conversation of an event view; ``None`` for a handler.
    :param keeps_request: whether the handshake's request is torn down when the handler has ended.
    :param on_end: called at the end, when the socket is closed and the handler has ended.
    """

    __slots__ = (
        "_args",
        "_cancelling",
        "_channels",
        "_connection",
        "_converse",
        "_keeps_request",
        "_kwargs",
        "_loop",
        "_on_end",
        "_options",
        "_report",
        "_returned",
        "_sock",
        "_stopped",
        "_target",
        "_task",
        "_ws",
        "error",
    )

    def __init__(
        self,
        upgrade: Upgrade,
        loop: AsyncioLoop,
        connection: AsyncConnection,
        ws: AsyncWebSocket,
        *,
        sock: _socket.socket | TLSTransport | None,
        report: Callable[[Exception], None],
        converse: Callable[..., AsyncConversation] | None,
        keeps_request: bool,
        on_end: Callable[[], object],
    ) -> None:
        self._target, self._args = upgrade.target, upgrade.args
        self._kwargs = upgrade.kwargs or NO_VARIABLES
        self._options, self._channels = upgrade.options, upgrade.channels
        self._loop = loop
        self._connection = connection
        self._ws = ws
        self._sock = sock
        self._report = report
        self._converse = converse
        self._keeps_request = keeps_request
        self._on_end = on_end
        self._task: asyncio.Task[None] | None = None
        # The timer that cancels a handler which goes on after the end of its connection; when
        # that had begun which it has cancelled, or 0; and whether the handler has ended.
        self._cancelling: asyncio.TimerHandle | None = None
        self._stopped = 0.0
        self._returned = False
        #: What the handler has raised.
        self.error: BaseException | None = None
        connection.owner = self

    def run(self) -> Coroutine[Any, Any, None]:
        """Serve the connection until it has ended, and its handler too."""
        # One coroutine: each idle connection keeps what there is of them.
        converse, self._converse = self._converse, None
        return self._run_handler() if converse is None else self._run_view(converse)

    async def _run_handler(self) -> None:
        """Run the handler, and close the connection as its end asks for."""
        self._begin()
        connection = self._connection
        handler: Callable[..., Any] = self._target
        session = SessionWatch()
        try:
            await self._open()
            await self._enter()
            connection.at_work = time.monotonic()
            try:
                result = await handler(self._ws, *self._args, **self._kwargs)
            finally:
                connection.at_work = 0.0
            check_result(handler, result)
        except Exception as error:
            self.error = error
            if is_closed(error):
                # Also where the handler has opened a connection elsewhere and lost that one.
                if connection.connected:
                    explain_foreign_end(handler)
                explain_late_send(handler, self._ws, error, this_task())
                await connection.close(NORMAL_CLOSURE, "")
            else:
                self._report(error)
                explain_exception(handler, error)
                await connection.close(INTERNAL_ERROR, "")
        except BaseException as error:
            self.error = error
            if isinstance(error, asyncio.CancelledError) and not self._is_cancelled():
                log_cancelled(handler, connection.label, error)
                await connection.close(INTERNAL_ERROR, "")
            else:
                # Such as SystemExit: the loop goes on, for the other handlers.
                connection.go_away(GOING_AWAY, "")
        else:
            returned = connection.connected
            await connection.close(NORMAL_CLOSURE, "")
            if returned and not connection.close_reason:
                # For tasks that the handler has started, and that still send.
                connection.close_reason = "the handler has returned"
        finally:
            session.check(handler)
            try:
                if self._keeps_request:
                    self._tear_down()
            finally:
                self._end()

    async def _run_view(self, converse: Callable[..., AsyncConversation]) -> None:
        """Call an event view's methods until the connection ends."""
        self._begin()
        try:
            await self._open()
            conversation = await self._make_conversation(converse)
            if conversation is not None:
                del converse
                await conversation.run(*self._args, **self._kwargs)
        finally:
            self._end()

    async def _make_conversation(
        self, converse: Callable[..., AsyncConversation]
    ) -> AsyncConversation | None:
        """Make a view's instance and its conversation; ``None`` where that has failed."""
        try:
            assert isinstance(self._target, type)
            view = self._target()
            await self._enter()
        except Exception as error:
            self._report(error)
            await self._connection.close(INTERNAL_ERROR, "")
            return None
        return converse(view, self._is_cancelled)

    def _begin(self) -> None:
        self._task = asyncio.current_task()
        self._connection.thread = self._loop.thread
        blocked_after = self._options.blocked_after
        if blocked_after is not None:
            watchdog_for(self._loop, blocked_after).start()

    def _end(self) -> None:
        self._returned = True
        if self._connection.connected:
            # An exception, such as SystemExit of a function that is told of another, has come
            # between: with nobody to close it, the connection would stay open.
            self._connection.go_away(INTERNAL_ERROR, "")
        if self._cancelling is not None:
            # It would keep the request in memory.
            self._cancelling.cancel()
        self._settle()

    async def _open(self) -> None:
        loop, connection = self._loop.loop, self._connection
        sock, self._sock = self._sock, None
        if sock is None:
            # The server has it.
            return
        if isinstance(sock, TLSTransport):
            connection.fd = sock.fd
            TLSStream(loop, sock, connection)
            return
        connection.fd = sock.fileno()
        try:
            await loop.connect_accepted_socket(lambda: connection, sock)  # type: ignore[arg-type]
        except OSError:
            # The handler is told, as of any connection that is lost.
            sock.close()
            connection.connection_lost(None)

    async def _enter(self) -> None:
        """Let the connection be reached by its user's identity, and end when its login does."""
        ws, connection, channels = self._ws, self._connection, self._channels
        if ws.identity is not None:
            enter = functools.partial(
                channels.enter, connection, ws.identity, direct_to(self._target, connection)
            )
            with contextlib.suppress(ConnectionClosed):
                if channels.is_local:
                    enter()
                else:
                    await call_beside(enter)
            ws.expires_at = getattr(ws.identity, "expires_at", None)
        if ws._recheck is not None:
            rechecks_for(threads).add(ws._recheck)

    def _tear_down(self) -> None:
        """Do what the end of a request does, which Flask has left undone."""
        try:
            tear_down(self.error)
        except Exception as error:
            self._report(error)

    def _is_cancelled(self) -> bool:
        """Whether flask-ws has cancelled what runs on the connection."""
        return self._stopped != 0 or self._loop.is_ending

    def on_closed(self) -> None:
        """Cancel what goes on for too long; called when the connection is closed."""
        # Also where nothing runs just now: the handler may be about to begin, or on_close().
        if (
            self._options.cancel_on_close
            and not self._returned
            # Then it has as long as the server waits for others.
            and not self._connection.server_stops
        ):
            self._stop_after(self._options.close_timeout)

    def _stop_after(self, seconds: float) -> None:
        self._cancelling = self._loop.loop.call_later(seconds, self._stop, seconds)

    def _stop(self, seconds: float) -> None:
        """Cancel a handler, or a view's method, that goes on although its connection has ended."""
        connection, task, began = self._connection, self._task, self._connection.at_work
        if task is not None and began:
            if began == self._stopped:
                line = line_of(task.get_coro())
                log_swallowed(self._target, connection.label, seconds, line)
                return
            logger.debug(
                "%s: %s goes on %s s after the end of its connection, and is cancelled.",
                connection.label,
                name_of(self._target),
                seconds,
            )
            self._stopped = began
            task.cancel()
        # It may catch that; and of a view, the next method may go on as well.
        self._stop_after(max(self._options.close_timeout, LEAST))

    def on_time_up(self) -> None:
        """Cancel what still runs as the server stops; called until it has ended."""
        task, began = self._task, self._connection.at_work
        if task is not None and began and began != self._stopped:
            logger.debug(
                "%s: %s goes on while the server stops, and is cancelled.",
                self._connection.label,
                name_of(self._target),
            )
            self._stopped = began
            task.cancel()

    def on_released(self, connection: AsyncConnection) -> None:
        """End the subscriptions; called when the socket is closed."""
        self._channels.forget(connection)
        self._settle()

    def _settle(self) -> None:
        """Let the connection go, once its socket is closed and its handler has ended."""
        if not (self._returned and self._connection.released):
            return
        self._connection.drop_messages()
        self._connection.release()
        self._on_end()
