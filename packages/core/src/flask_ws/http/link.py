"""A connection and what runs on it, from the 101 to the end of the TCP connection."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import flask

from ..budget import budget
from ..connection.async_connection import AnyConnection
from ..connection.connection import Connection
from ..connection.tls import TLSTransport
from ..connection.transport import PlainTransport
from ..label import LABEL, Label
from ..loop.drain import drain
from ..loop.flusher import flusher_for
from ..loop.keepalive import Watch
from ..loop.monitor import Monitor, monitor_for
from ..loop.reactor import Reactor, reactor_for_process
from ..protocol.close_codes import GOING_AWAY, INTERNAL_ERROR
from ..protocol.deflate import Deflate
from ..protocol.protocol import Protocol
from ..views.context import move_request
from ..views.conversation import Conversation
from ..views.first_use import telling
from ..views.limiter import LimitedAsyncWebSocket, LimitedWebSocket, Limiter
from ..views.view import WebSocketView
from ..views.websocket import EventWebSocket, WebSocket
from .admission import no_descriptors, no_threads, too_many_connections
from .clients import Client, clients
from .handshake import head_size
from .head import Headers, make_head
from .identity import enter
from .records import current_tally, make_label, note_end, note_start
from .run import report, run_handler
from .takeover import take_over
from .upgrade import ON_EXCEPTION, ON_READY, OwnThread, Upgrade

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Link", "make_protocol", "record_end"]

T = TypeVar("T")


class Link:
    """A connection and what runs on it, from the 101 to the end of the TCP connection.

    It owns the connection from :meth:`open` until :meth:`close`, which must be called, or until it
    hands the connection over to the reactor. The same holds for its place, from :meth:`admit` on.

    :param upgrade: the handshake that was accepted.
    """

    __slots__ = (
        "_admitted",
        "_began",
        "_client",
        "_limiter",
        "_monitor",
        "_on_reactor",
        "_owned",
        "_reactor",
        "_ready",
        "_report",
        "_upgrade",
        "connection",
        "detached",
        "takeover",
        "ws",
    )

    #: The connection; and as the handler sees it.
    connection: Connection
    ws: WebSocket

    def __init__(self, upgrade: Upgrade) -> None:
        server_socket = upgrade.server_socket
        self.takeover = take_over(server_socket)
        self._upgrade = upgrade
        # A TLS connection needs a thread that waits for it: if it is detached, one of our own.
        self._on_reactor = (
            isinstance(upgrade.target, type)
            and upgrade.options.detach
            and self.takeover.sslobj is None
            # A client that is to wait needs a thread that waits, too.
            and not upgrade.options.slows_clients
            and (server_socket.detach or server_socket.detachable)
        )
        #: Whether the connection is served outside the server's worker.
        self.detached = self._on_reactor
        self._monitor = monitor_for(server_socket.concurrency)
        self._began = time.monotonic()
        self._report = report
        # Tells that the handler waits for the peer, or that `on_open` has returned.
        self._ready: Callable[[], object] | None = None
        # What close() has to release: a place among the connections, what the reactor expects, and
        # the connection.
        self._admitted = self._owned = False
        self._client: Client | None = None
        self._limiter: Limiter | None = None
        self._reactor: Reactor | None = None

    def admit(self) -> None:
        """Take a place among the connections, and start the threads that serve all of them.

        :raises ServiceUnavailable: the last was taken since the handshake was accepted, or the
            system has no more threads.
        """
        options = self._upgrade.options
        drain.seconds = options.drain
        try:
            self._admitted = self._monitor.admit(options.max_connections)
            if self._admitted and self._on_reactor:
                reactor = self._find_reactor(options.workers)
                reactor.expect()
                self._reactor = reactor
        except RuntimeError as error:
            raise no_threads() from error
        if not self._admitted:
            raise too_many_connections(options)
        if self._upgrade.client_key is not None:
            self._client = clients.enter((current_tally(), self._upgrade.client_key), options)

    def _find_reactor(self, workers: int) -> Reactor:
        return reactor_for_process(workers)

    def open(self, headers: Headers, dispatch: OwnThread | None) -> None:
        """Take the connection from the server, and answer the handshake.

        :param headers: those of the 101.
        :param dispatch: the thread of ours that the request runs on, if it does.
        :raises ServiceUnavailable: there is no descriptor for it; the server still has it.
        :raises Unsendable: the app has set a header that cannot be sent.
        """
        head = make_head(headers)
        server_socket, options = self._upgrade.server_socket, self._upgrade.options
        environ = flask.request.environ
        self.detached = self._on_reactor or (dispatch is not None and options.detach)
        # Before anything else touches the server's socket.
        early = server_socket.take_read_ahead()
        if self.detached:
            self._take()
            if dispatch is not None:
                environ = dispatch.copy_environ(environ)
                move_request(environ)
        tell = environ.get(ON_EXCEPTION)
        if tell is not None:
            self._report = functools.partial(report, tell=tell)
        self._owned = True
        self.connection = connection = self._make_connection(environ)
        ready = environ.get(ON_READY)
        if ready is not None:
            self._ready = functools.partial(ready, connection)
        self.ws = self._make_websocket(environ)
        budget.limit = options.max_buffered
        self._begin(headers, head, early, head_size(environ))
        self._watch()

    def _begin(self, headers: Headers, head: bytes, early: bytes, size: int) -> None:
        """Answer the handshake.

        :param headers: those of the 101; and
        :param head: the 101 itself.
        :param early: what was received along with the handshake.
        :param size: bytes of memory that the request takes.
        """
        concurrency = self._upgrade.server_socket.concurrency
        self.connection.sender.when_blocked = flusher_for(concurrency).watch
        self.connection.begin(head, early, size)

    def _watch(self) -> None:
        """Have the monitor watch the connection, in the place that was taken for it."""
        server_socket, options = self._upgrade.server_socket, self._upgrade.options
        watch = Watch(
            self.connection,
            # A server that frames messages sends its own pings.
            ping_interval=options.ping_interval if server_socket.messages is None else None,
            ping_timeout=options.ping_timeout,
            close_timeout=options.close_timeout,
            is_stopping=server_socket.is_stopping,
            stop_timeout=server_socket.stop_timeout,
            message_timeout=options.message_timeout,
            has_successor=server_socket.has_successor,
        )
        self._monitor.add(watch, admitted=True)
        self._admitted = False
        note_start(self.connection, self.ws)

    def _take(self) -> None:
        try:
            self.takeover.take()
        except OSError as error:
            raise no_descriptors() from error
        self._owned = True

    def run(self) -> None:
        """Serve the connection; or hand it over to the reactor."""
        if not isinstance(self._upgrade.target, type):
            run_handler(self._upgrade, self.connection, self.ws, self._report)
        elif self._on_reactor:
            self.hand_to_reactor()
        else:
            self.run_view()

    def run_view(self) -> None:
        """Call an event view's methods, on this thread, until the connection ends."""
        conversation = None
        try:
            conversation = self._converse()
            self._open_view(conversation)
            more = conversation.serve(read=False)
            while more:
                more = conversation.serve(wait=True)
        except BaseException:
            if conversation is not None:
                # This thread serves no other connection, so it waits for the peer's close frame.
                self.connection.close(GOING_AWAY, "")
                conversation.give_up()
            raise

    def hand_to_reactor(self) -> None:
        """Let the reactor call an event view's methods."""
        conversation = None
        try:
            conversation = self._converse()
            self._open_view(conversation)
            reactor = self._reactor
            assert reactor is not None
            # Not self.close, which would keep the objects of the handshake in memory.
            end = functools.partial(end_connection, self.connection, self._monitor, self._began)
            self._owned = False
            try:
                reactor.add(conversation, end)
            except BaseException:
                # Ctrl-C may come when it has been handed over already.
                self._owned = not reactor.serves(conversation)
                raise
        except BaseException:
            if conversation is not None and self._owned:
                conversation.give_up()
            raise

    def _converse(self) -> Conversation:
        assert isinstance(self._upgrade.target, type)
        assert isinstance(self.ws, EventWebSocket)
        try:
            view = self._upgrade.target()
            conversation = Conversation(view, self.ws, self._report, self._limiter)
            enter(self._upgrade, self.connection, self.ws, self._report)
            return conversation
        except Exception as error:
            self._report(error)
            self.ws.close(INTERNAL_ERROR)
        # There is no instance whose on_close could be called: an empty view takes its place.
        return Conversation(WebSocketView(), self.ws, self._report)

    def _open_view(self, conversation: Conversation) -> None:
        conversation.open(*self._upgrade.args, **self._upgrade.kwargs)
        if self._ready is not None:
            self._ready()

    def close(self) -> None:
        """End the connection, and release what is held for it; only the first call does so."""
        if self._client is not None:
            clients.leave(self._client)
            self._client = None
        if self._admitted:
            self._admitted = False
            self._monitor.cancel_admission()
        if self._reactor is not None:
            self._reactor.stop_expecting()
            self._reactor = None
        if not self._owned:
            return
        self._owned = False
        if hasattr(self, "connection"):
            end_connection(self.connection, self._monitor, self._began)
        else:
            self.takeover.close()

    def _make_connection(self, environ: WSGIEnvironment) -> Connection:
        upgrade, takeover = self._upgrade, self.takeover
        options, concurrency = upgrade.options, upgrade.server_socket.concurrency
        label = self._make_label(environ)
        make_transport = PlainTransport if takeover.sslobj is None else TLSTransport
        return Connection(
            make_transport(takeover.sock, concurrency, takeover.close),
            make_protocol(upgrade),
            concurrency=concurrency,
            close_timeout=options.close_timeout,
            max_queue=options.max_queue,
            max_queue_bytes=options.max_queue_bytes,
            max_outbox=options.max_outbox,
            label=label,
            call_at=self._monitor.at,
        )

    def _make_label(self, environ: WSGIEnvironment) -> Label:
        label: Label = make_label(environ)
        environ[LABEL] = label
        # From here on, the end of the connection gives up the client's place.
        label.client, self._client = self._client, None
        if label.client is not None and label.client.bucket is not None:
            self._limiter = Limiter(label.client.bucket, self._upgrade.options.rate_action)
        return label

    def _make_websocket(self, environ: WSGIEnvironment) -> WebSocket:
        return self._make(environ, WebSocket, LimitedWebSocket, EventWebSocket)

    def _make(
        self,
        environ: WSGIEnvironment,
        plain: Callable[..., T],
        limited: Callable[..., T],
        event: Callable[..., T],
        **more: Any,
    ) -> T:
        """Make what the handler is given.

        :param plain: its class; and
        :param limited: where the client's rate is limited; and
        :param event: that of event views.
        :param more: further arguments of these classes.
        """
        # The app's provider needs no app context. Before Flask 2.2, it is that of the current app.
        provider = getattr(flask.current_app, "json", flask.json)
        is_view = isinstance(self._upgrade.target, type)
        limiter = None if is_view else self._limiter
        make = event if is_view else plain if limiter is None else limited
        if self._ready is not None and not is_view:
            make = functools.partial(telling(make), tell_use=self._ready)
        options = self._upgrade.options
        ws = make(
            self.connection,
            environ=environ,
            subprotocol=self._upgrade.handshake.subprotocol,
            provider=provider,
            channels=self._upgrade.channels,
            max_subscriptions=options.max_subscriptions,
            max_joins=options.presence_max_joins,
            max_info=options.presence_max_info,
            identity=self._upgrade.identity,
            **more,
        )
        if isinstance(ws, (LimitedWebSocket, LimitedAsyncWebSocket)) and limiter is not None:
            ws._limit(limiter)
        return ws


def make_protocol(upgrade: Upgrade) -> Protocol:
    """Make a connection's protocol, as the handshake has agreed on it."""
    max_size, deflate = upgrade.options.max_message_size, None
    if upgrade.handshake.deflate is not None:
        deflate = Deflate(upgrade.handshake.deflate, client=False, max_size=max_size)
    return Protocol(max_message_size=max_size, deflate=deflate)


def end_connection(connection: Connection, monitor: Monitor, began: float) -> None:
    """Close a connection's socket, stop watching the connection, and log its end."""
    try:
        connection.release()
    finally:
        record_end(connection, monitor, began)


def record_end(connection: AnyConnection, monitor: Monitor, began: float) -> None:
    """Stop watching a connection that has ended, and record how it ended."""
    monitor.remove(connection)
    # After the last connection, the monitor does not run any more, and logs nothing.
    budget.tell()
    note_end(connection, time.monotonic() - began)
