"""A connection on the asyncio loop and the async handler that runs on it, from the 101 to its end.

What :class:`~flask_ws.http.link.Link` is for threads.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import contextvars
import functools
import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flask

from ..budget import budget
from ..concurrency import Event, HomeThread
from ..connection.async_connection import AsyncConnection
from ..connection.endpoint import NORMAL_CLOSURE
from ..connection.tls_stream import TLSStream
from ..connection.transport import TLSTransport
from ..exceptions import ConnectionClosed
from ..loop.asyncio_loop import asyncio_loop, asyncio_primitives, current_label
from ..loop.monitor import Watch
from ..loop.watchdog import watchdog_for
from ..views.advice import (
    SessionWatch,
    check_result,
    explain_exception,
    explain_foreign_end,
    log_cancelled,
    name_of,
)
from ..views.async_conversation import AsyncConversation
from ..views.async_websocket import AsyncEventWebSocket, AsyncWebSocket
from ..views.context import (
    Scope,
    hold_request,
    move_request,
    own_context,
    tear_down,
    tear_down_with,
)
from ..views.conversation import lighten
from ..views.first_use import telling
from ..views.limiter import LimitedAsyncWebSocket
from .admission import no_threads
from .handshake import head_size
from .link import (
    GOING_AWAY,
    INTERNAL_ERROR,
    ON_EXCEPTION,
    ON_READY,
    Link,
    OwnThread,
    Upgrade,
    make_protocol,
    report,
    see_off,
)
from .register import note_start

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["AsyncLink"]

logger = logging.getLogger("flask_ws")

#: Seconds after which a server's thread that waits for the end of a connection looks for signals.
LOOK = 0.2


class AsyncLink(Link):
    """A connection and what runs on it. From :meth:`run` on, all of it is the loop's."""

    __slots__ = (
        "_cancelling",
        "_error",
        "_finished",
        "_home",
        "_loop",
        "_returned",
        "_scope",
        "_sock",
        "_stopped",
        "_task",
        "_tls",
    )

    connection: AsyncConnection  # type: ignore[assignment]
    ws: AsyncWebSocket  # type: ignore[assignment]

    def __init__(self, upgrade: Upgrade) -> None:
        super().__init__(upgrade)
        self._on_reactor = self.detached = False
        self._loop = asyncio_loop(uvloop=upgrade.options.uvloop)
        self._task: asyncio.Task[None] | None = None
        # The timer that cancels a handler which goes on after the end of its connection.
        self._cancelling: asyncio.TimerHandle | None = None
        # Whether it has, whether the handler has ended, and what it has raised.
        self._stopped = False
        self._returned = False
        self._error: BaseException | None = None
        # Of an event view.
        self._scope: Scope | None = None
        # For a server's thread that waits for the end, and where that can be told so.
        self._finished: Event | None = None
        self._home: HomeThread | None = None
        self._tls: TLSTransport | None = None
        self._sock: _socket.socket | None = None

    def admit(self) -> None:
        """Take a place among the connections, and start the threads that serve all of them.

        :raises ServiceUnavailable: the last was taken since the handshake was accepted, or the
            system has no more threads.
        """
        super().admit()
        try:
            self._loop.start_thread()
        except RuntimeError as error:
            raise no_threads() from error

    def open(self, head: bytes, dispatch: OwnThread | None) -> None:
        """Take the connection from the server; the loop will answer the handshake.

        :param head: the 101.
        :param dispatch: the thread of ours that the request runs on, if it does.
        :raises ServiceUnavailable: there is no descriptor for it; the server has it still.
        """
        server_socket, options = self._upgrade.server_socket, self._upgrade.options
        environ = flask.request.environ
        leaves = dispatch is not None or server_socket.detach or server_socket.detachable
        self.detached = options.detach and leaves and own_context.get()
        # Before anything else touches the server's socket.
        early = server_socket.take_read_ahead()
        self._take()
        if self.detached and dispatch is not None:
            environ = dispatch.copy_environ(environ)
        tell = environ.get(ON_EXCEPTION)
        if tell is not None:
            self._report = functools.partial(report, tell=tell)
        ready = environ.get(ON_READY)
        # Before the context is copied: what is copied of it has this one.
        environ = lighten(environ)
        move_request(environ)
        label = self._make_label(environ)
        self.connection = connection = AsyncConnection(
            make_protocol(self._upgrade),
            loop=self._loop.loop,
            home=self._loop.home,
            concurrency=asyncio_primitives,
            close_timeout=options.close_timeout,
            max_queue=options.max_queue,
            max_queue_bytes=options.max_queue_bytes,
            max_outbox=options.max_outbox,
            label=label,
        )
        budget.limit = options.max_buffered
        connection.begin(head, early, head_size(environ))
        connection.when_closed = self._on_closed
        connection.when_released = self._on_released
        if ready is not None:
            self._ready = functools.partial(ready, connection)
        self.ws = self._make_websocket(environ)
        watch = Watch(
            connection,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            close_timeout=options.close_timeout,
            is_stopping=server_socket.is_stopping,
            stop_timeout=server_socket.stop_timeout,
            message_timeout=options.message_timeout,
        )
        self._monitor.add(watch, admitted=True)
        self._admitted = False
        note_start(connection, self.ws)

    def _take(self) -> None:
        """Take the socket from the server."""
        takeover = self.takeover
        if takeover.sslobj is not None:
            # Before the server's socket object is another's.
            self._tls = TLSTransport(takeover.sock, asyncio_primitives, takeover.close)
            super()._take()
            return
        super()._take()
        sock = takeover.sock
        # Where the loop is a greenlet, one at C level, which is not; where it is uvloop's, one of
        # Python's, because what else it is given it closes twice.
        make = _socket.socket if self._loop.is_green else socket.socket
        self._sock = make(sock.family, sock.type, sock.proto, fileno=sock.detach())
        with contextlib.suppress(OSError):
            # Absent on Unix sockets. Without it, a small message waits for the last one's ACK.
            self._sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)

    def _make_websocket(self, environ: WSGIEnvironment) -> AsyncWebSocket:  # type: ignore[override]
        # The app's own, in tasks without an app context too; before Flask 2.2, the current app's.
        provider = getattr(flask.current_app, "json", flask.json)
        kind = AsyncWebSocket if self._limiter is None else LimitedAsyncWebSocket
        make: Callable[..., AsyncWebSocket] = kind
        if isinstance(self._upgrade.target, type):
            make = AsyncEventWebSocket
        elif self._ready is not None:
            make = functools.partial(telling(kind), tell_use=self._ready)
        ws = make(
            self.connection,
            loop=self._loop.loop,
            environ=environ,
            subprotocol=self._upgrade.handshake.subprotocol,
            dumps=provider.dumps,
            loads=provider.loads,
            channels=self._upgrade.channels,
            max_subscriptions=self._upgrade.options.max_subscriptions,
        )
        if isinstance(ws, LimitedAsyncWebSocket) and self._limiter is not None:
            ws.limit(self._limiter)
        return ws

    def run(self) -> None:
        """Hand the connection over to the loop; and wait for its end, where the server is to."""
        concurrency = self._upgrade.server_socket.concurrency
        if not self.detached:
            self._finished, self._home = concurrency.event(), concurrency.home()
        if isinstance(self._upgrade.target, type):
            # Its methods have request contexts of their own, and the handshake's ends as ever.
            self._scope = Scope()
            context = self._scope.enter()
        else:
            if self.detached:
                hold_request()
            context = contextvars.copy_context()
        context.run(current_label.set, self.connection.label)
        self._loop.start(self._run, context)
        self._owned = False
        if self._finished is not None:
            self._wait(self._finished)

    def _wait(self, finished: Event) -> None:
        try:
            # Servers have signals restart the system call of a lock that is waited for, so that
            # Python, in its main thread, does not come to run their handlers.
            while not finished.wait(LOOK):
                pass
            if self._error is not None:
                tear_down_with(self._error)
        except BaseException:
            # GreenletExit, SystemExit, KeyboardInterrupt: the server stops.
            self.connection.go_away(GOING_AWAY, "")
            raise

    def close(self) -> None:
        """Give back what is held for a connection that the loop has not got."""
        if self._owned and self._tls is not None:
            self._tls.close()
        elif self._owned and self._sock is not None:
            self._sock.close()
        if self._owned and hasattr(self, "connection"):
            # The loop has no thread, or has ended.
            see_off(self.connection, self._monitor, self._began)
            self._owned = False
        super().close()

    # On the loop

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        blocked_after = self._upgrade.options.blocked_after
        if blocked_after is not None:
            watchdog_for(self._loop, blocked_after).start()
        try:
            await self._open()
            if self._scope is not None:
                await self._serve_view(self._scope)
            else:
                self._error = await self._serve()
                if self._finished is None:
                    self._tear_down()
        finally:
            self._returned = True
            if self._cancelling is not None:
                # It would keep the request in memory.
                self._cancelling.cancel()
            self._settle()

    async def _open(self) -> None:
        loop, connection = self._loop.loop, self.connection
        if self._tls is not None:
            connection.fd = self._tls.fd
            TLSStream(loop, self._tls, connection)
            return
        assert self._sock is not None
        connection.fd = self._sock.fileno()
        try:
            await loop.connect_accepted_socket(lambda: connection, self._sock)  # type: ignore[arg-type]
        except OSError:
            # The handler is told, as of any connection that is lost.
            self._sock.close()
            connection.connection_lost(None)
        self._sock = None

    async def _serve(self) -> BaseException | None:
        """Run the handler, and close the connection as its end asks for; return what it raised."""
        connection = self.connection
        handler: Callable[..., Any] = self._upgrade.target
        session = SessionWatch()
        connection.at_work = time.monotonic()
        try:
            try:
                result = await handler(self.ws, *self._upgrade.args, **self._upgrade.kwargs)
            finally:
                connection.at_work = 0.0
            check_result(handler, result)
        except ConnectionClosed as error:
            # Also where the handler has opened a connection elsewhere and lost that one.
            if connection.connected:
                explain_foreign_end(handler)
            await connection.close(NORMAL_CLOSURE, "")
            return error
        except Exception as error:
            self._report(error)
            explain_exception(handler, error)
            await connection.close(INTERNAL_ERROR, "")
            return error
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and not self._is_cancelled():
                log_cancelled(handler, connection.label, error)
                await connection.close(INTERNAL_ERROR, "")
            else:
                # Other handlers go on where it asks for the end of the process.
                connection.go_away(GOING_AWAY, "")
            return error
        else:
            returned = connection.connected
            await connection.close(NORMAL_CLOSURE, "")
            if returned and not connection.close_reason:
                # For tasks that the handler has started, and that still send.
                connection.close_reason = "the handler has returned"
        finally:
            session.check(handler)
        return None

    async def _serve_view(self, scope: Scope) -> None:
        """Call an event view's methods until the connection ends."""
        connection = self.connection
        try:
            assert isinstance(self._upgrade.target, type)
            view = self._upgrade.target()
        except Exception as error:
            self._report(error)
            await connection.close(INTERNAL_ERROR, "")
            return
        conversation = AsyncConversation(
            view,
            self.ws,
            connection,
            scope,
            self._report,
            self._is_cancelled,
            self._ready,
            self._limiter,
        )
        await conversation.run(*self._upgrade.args, **self._upgrade.kwargs)

    def _tear_down(self) -> None:
        """Do what the end of a request does, which Flask has left undone."""
        try:
            tear_down(self._error)
        except Exception as error:
            self._report(error)

    def _is_cancelled(self) -> bool:
        """Whether flask-ws has cancelled what runs on the connection."""
        return self._stopped or self._loop.is_ending

    def _on_closed(self) -> None:
        options = self._upgrade.options
        if self.connection.at_work and options.cancel_on_close:
            self._cancelling = self._loop.loop.call_later(options.close_timeout, self._stop)

    def _stop(self) -> None:
        """Cancel a handler that goes on although its connection has ended."""
        if self.connection.at_work and self._task is not None:
            logger.debug(
                "%s: %s goes on %s s after the end of its connection, and is cancelled.",
                self.connection.label,
                name_of(self._upgrade.target),
                self._upgrade.options.close_timeout,
            )
            self._stopped = True
            self._task.cancel()

    def _on_released(self, connection: AsyncConnection) -> None:
        self._upgrade.channels.forget(connection)
        self._settle()

    def _settle(self) -> None:
        """See the connection off, once its socket is closed and its handler has ended."""
        if not (self._returned and self.connection.released):
            return
        self.connection.drop_messages()
        see_off(self.connection, self._monitor, self._began)
        if self._finished is not None:
            if self._home is None:
                self._finished.set()
            else:
                self._home.run(self._finished.set)
