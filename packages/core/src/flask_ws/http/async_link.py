"""A connection on the asyncio loop and the async handler that runs on it, from the 101 to its end.

What :class:`~flask_ws.http.link.Link` is for threads.
"""

from __future__ import annotations

import _socket
import contextlib
import contextvars
import functools
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import flask

from ..budget import budget
from ..concurrency import Event, HomeThread
from ..connection.async_connection import AsyncConnection
from ..connection.tls import TLSTransport
from ..loop.asyncio_loop import AsyncioLoop, asyncio_loop, asyncio_primitives
from ..loop.callbacks import current_label
from ..protocol.close_codes import GOING_AWAY
from ..views.async_conversation import AsyncConversation
from ..views.async_websocket import AsyncEventWebSocket, AsyncWebSocket
from ..views.context import (
    Scope,
    hold_request,
    move_request,
    own_context,
    tear_down_with,
)
from ..views.conversation import lighten
from ..views.limiter import LimitedAsyncWebSocket
from .admission import no_threads
from .async_run import AsyncRun
from .handshake import head_size
from .head import Headers, make_head
from .identity import make_recheck
from .link import Link, make_protocol, record_end
from .run import report
from .upgrade import ON_EXCEPTION, ON_READY, OwnThread, Upgrade

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["AsyncLink"]

logger = logging.getLogger("flask_ws")

#: Seconds after which a server's thread that waits for the end of a connection looks for signals.
LOOK = 0.2
#: Seconds that a handler has to end when it is cancelled because the server stops.
CANCELLED = 1.0


class AsyncLink(Link):
    """A connection and what runs on it. From :meth:`run` on, only the loop's thread uses it."""

    __slots__ = ("_loop", "_sock")

    connection: AsyncConnection  # type: ignore[assignment]
    ws: AsyncWebSocket  # type: ignore[assignment]

    def __init__(self, upgrade: Upgrade) -> None:
        super().__init__(upgrade)
        self._on_reactor = self.detached = False
        self._loop = self._find_loop()
        # The socket, plain or with TLS.
        self._sock: _socket.socket | TLSTransport | None = None

    def _find_loop(self) -> AsyncioLoop:
        return asyncio_loop(uvloop=self._upgrade.options.uvloop)

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

    def open(self, headers: Headers, dispatch: OwnThread | None) -> None:
        """Take the connection from the server; the loop will answer the handshake.

        :param headers: those of the 101.
        :param dispatch: the thread of ours that the request runs on, if it does.
        :raises ServiceUnavailable: there is no descriptor for it; the server has it still.
        :raises Unsendable: the app has set a header that cannot be sent.
        """
        server_socket, options = self._upgrade.server_socket, self._upgrade.options
        head = make_head(headers)
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
        self.connection = connection = self._make_connection(environ)
        budget.limit = options.max_buffered
        self._begin(headers, head, early, head_size(environ))
        if ready is not None:
            self._ready = functools.partial(ready, connection)
        self.ws = self._make_websocket(environ)
        self.ws._recheck = make_recheck(self._upgrade.rules, self.ws, connection, self._report)
        self._watch()

    def _make_connection(self, environ: WSGIEnvironment) -> AsyncConnection:  # type: ignore[override]
        options = self._upgrade.options
        return AsyncConnection(
            make_protocol(self._upgrade),
            loop=self._loop.loop,
            home=self._loop.home,
            concurrency=asyncio_primitives,
            close_timeout=options.close_timeout,
            max_queue=options.max_queue,
            max_queue_bytes=options.max_queue_bytes,
            max_outbox=options.max_outbox,
            label=self._make_label(environ),
        )

    def _begin(self, headers: Headers, head: bytes, early: bytes, size: int) -> None:
        self.connection.begin(head, early, size)

    def _take(self) -> None:
        """Take the socket from the server."""
        takeover = self.takeover
        if takeover.sslobj is not None:
            # Before the server's socket object is another's.
            self._sock = TLSTransport(takeover.sock, asyncio_primitives, takeover.close)
            super()._take()
            return
        super()._take()
        sock = takeover.sock
        # A loop in a greenlet needs a socket at C level, which is never green. uvloop needs one of
        # Python's: it closes any other twice.
        make = _socket.socket if self._loop.is_green else socket.socket
        self._sock = plain = make(sock.family, sock.type, sock.proto, fileno=sock.detach())
        with contextlib.suppress(OSError):
            # Absent on Unix sockets. Without it, a small message waits for the last one's ACK.
            plain.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        plain.setblocking(False)

    def _make_websocket(self, environ: WSGIEnvironment) -> AsyncWebSocket:  # type: ignore[override]
        kinds = AsyncWebSocket, LimitedAsyncWebSocket, AsyncEventWebSocket
        return self._make(environ, *kinds, loop=self._loop.loop)

    def run(self) -> None:
        """Hand the connection over to the loop; and wait for its end, where the server is to."""
        concurrency = self._upgrade.server_socket.concurrency
        finished = None if self.detached else concurrency.event()
        converse = None
        if isinstance(self._upgrade.target, type):
            # Its methods have request contexts of their own; the handshake's ends as usual.
            scope = Scope()
            converse = functools.partial(
                AsyncConversation,
                ws=self.ws,
                connection=self.connection,
                scope=scope,
                report=self._report,
                ready=self._ready,
                limiter=self._limiter,
            )
            context = scope.enter()
        else:
            if self.detached:
                hold_request()
            context = contextvars.copy_context()
        context.run(current_label.set, self.connection.label)
        run = AsyncRun(
            self._upgrade,
            self._loop,
            self.connection,
            self.ws,
            sock=self._sock,
            report=self._report,
            converse=converse,
            keeps_request=self.detached,
            on_end=self._make_end(finished, concurrency.home()),
        )
        self._loop.start(run.run, context, self.connection.label.endpoint)
        self._owned = False
        if finished is not None:
            self._wait(run, finished)

    def _make_end(self, finished: Event | None, home: HomeThread | None) -> Callable[[], object]:
        """Make what is called at the end.

        :param finished: is set then, for the server's thread that waits; and
        :param home: where that is to be done, if in one thread only.
        """
        # Not a method: it would keep the handshake in memory.
        end = functools.partial(record_end, self.connection, self._monitor, self._began)
        if finished is None:
            return end
        return functools.partial(end_waiting, end, finished, home)

    def _wait(self, run: AsyncRun, finished: Event) -> None:
        try:
            # Servers have signals restart the system call of a lock that is waited for, so that
            # Python, in its main thread, does not come to run their handlers.
            while not finished.wait(LOOK):
                pass
            if run.error is not None:
                tear_down_with(run.error)
        except BaseException:
            # GreenletExit, SystemExit, KeyboardInterrupt: the server stops.
            self.connection.go_away(GOING_AWAY, "")
            # It may end the process as soon as it has its thread back: so Werkzeug does where each
            # request is a process.
            if not finished.wait(self._upgrade.options.close_timeout):
                self.connection.cancel_work()
                finished.wait(CANCELLED)
            raise

    def close(self) -> None:
        """Give back what is held for a connection that the loop has not got."""
        if self._owned and self._sock is not None:
            self._sock.close()
        if self._owned and hasattr(self, "connection"):
            # The loop has no thread, or has ended.
            record_end(self.connection, self._monitor, self._began)
            self._owned = False
        super().close()


def end_waiting(end: Callable[[], object], finished: Event, home: HomeThread | None) -> None:
    """Record the end of a connection, and let the server's thread go on."""
    end()
    if home is None:
        finished.set()
    else:
        home.run(finished.set)
