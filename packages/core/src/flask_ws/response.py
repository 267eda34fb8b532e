"""The response that answers 101: when the server calls it, the WebSocket lives."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import flask
from werkzeug.wsgi import ClosingIterator

from .deflate import Deflate
from .detach import DISPATCH, Dispatch
from .exceptions import ConnectionClosed
from .flusher import flusher_for
from .handshake import Handshake
from .hookspecs import ServerSocket
from .monitor import Watch, monitor_for
from .options import Options
from .protocol import Protocol
from .takeover import Takeover
from .transport import PlainTransport, TLSTransport, Transport
from .websocket import WebSocket

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Handler", "WebSocketResponse"]

logger = logging.getLogger("flask_ws")

#: A handler with the URL's variables filled in.
Handler = Callable[[WebSocket], object]

SWITCHING_PROTOCOLS = 101
GOING_AWAY = 1001
INTERNAL_ERROR = 1011

#: Of the headers that Flask gives every response, those that say nothing about a 101.
BODY_HEADERS = frozenset({"content-type", "content-length"})


@dataclass
class Upgrade:
    """A handshake that was accepted, and what is to run on its connection."""

    handler: Handler
    handshake: Handshake
    options: Options
    server_socket: ServerSocket


class WebSocketResponse(flask.Response):
    """A response of status 101. To call it is to take the connection and run the handler.

    Flask's ``after_request`` functions see it as any other response; its headers are sent.
    """

    upgrade: Upgrade

    @classmethod
    def accept(cls, upgrade: Upgrade) -> WebSocketResponse:
        """Make the response to an accepted handshake."""
        response = cls(status=SWITCHING_PROTOCOLS, headers=upgrade.handshake.headers)
        response.upgrade = upgrade
        return response

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve the WebSocket; then give the server a 101 to log, on a socket that is dead."""
        if self.status_code != SWITCHING_PROTOCOLS:
            # An after_request function thought otherwise.
            return super().__call__(environ, start_response)
        takeover = Takeover(self.upgrade.server_socket.sock)
        # Before anything else touches the server's socket.
        early = self.upgrade.server_socket.take_read_ahead()
        dispatch: Dispatch | None = environ.get(DISPATCH)
        if dispatch is not None and self.upgrade.options.detach:
            takeover.detach()
            dispatch.release(takeover.drain)
            serve(self.upgrade, takeover, self._head(environ), early, environ)
            return []
        serve(self.upgrade, takeover, self._head(environ), early, environ)
        start_response("101 Switching Protocols", [])
        return ClosingIterator([], takeover.drain)

    def _head(self, environ: WSGIEnvironment) -> bytes:
        lines = ["HTTP/1.1 101 Switching Protocols"]
        lines += [
            f"{name}: {value}"
            for name, value in self.get_wsgi_headers(environ)
            if name.lower() not in BODY_HEADERS
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def serve(
    upgrade: Upgrade, takeover: Takeover, head: bytes, early: bytes, environ: WSGIEnvironment
) -> None:
    """Run a handler on its connection, from the 101 to the end of the TCP connection."""
    options, server_socket = upgrade.options, upgrade.server_socket
    ws = _connect(upgrade, takeover, head, early, environ)
    monitor = monitor_for(server_socket.concurrency)
    monitor.add(
        Watch(
            ws,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            close_timeout=options.close_timeout,
            is_stopping=server_socket.is_stopping,
            unattended=True,
        )
    )
    began = time.monotonic()
    logger.debug("%s open", ws.label)
    try:
        run(upgrade.handler, ws)
    finally:
        try:
            ws.release()
        finally:
            monitor.remove(ws)
            logger.debug(
                "%s closed: %s, %.3f s, %d messages (%d bytes) in, %d messages (%d bytes) out",
                ws.label,
                f"{ws.close_code} {ws.close_reason}".rstrip(),
                time.monotonic() - began,
                ws.messages_received,
                ws.bytes_received,
                ws.messages_sent,
                ws.bytes_sent,
            )


def run(handler: Handler, ws: WebSocket) -> None:
    """Run a handler, and close the connection as its end asks for."""
    try:
        handler(ws)
    except ConnectionClosed:
        # Also where the handler has opened a connection elsewhere and lost that one.
        ws.close()
    except Exception as error:
        report(error)
        ws.close(INTERNAL_ERROR)
    except BaseException:
        # GreenletExit, SystemExit, KeyboardInterrupt: the server stops.
        ws.close(GOING_AWAY)
        raise
    else:
        ws.close()


def report(error: Exception) -> None:
    """Report a handler's exception as Flask reports a view's."""
    app = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    flask.got_request_exception.send(app, exception=error)
    app.log_exception(sys.exc_info())


def _connect(
    upgrade: Upgrade, takeover: Takeover, head: bytes, early: bytes, environ: WSGIEnvironment
) -> WebSocket:
    options, server_socket = upgrade.options, upgrade.server_socket
    deflate = None
    if upgrade.handshake.deflate is not None:
        deflate = Deflate(
            upgrade.handshake.deflate, client=False, max_size=options.max_message_size
        )
    protocol = Protocol(max_message_size=options.max_message_size, deflate=deflate)
    protocol.receive_data(early)
    transport = _make_transport(takeover, server_socket)
    ws = WebSocket(
        transport,
        protocol,
        concurrency=server_socket.concurrency,
        close_timeout=options.close_timeout,
        max_queue=options.max_queue,
        label=f"WebSocket {environ.get('REMOTE_ADDR') or '-'} {environ.get('PATH_INFO', '')}",
        environ=environ,
        subprotocol=upgrade.handshake.subprotocol,
        dumps=flask.json.dumps,
        loads=flask.json.loads,
    )
    ws.when_blocked = flusher_for(server_socket.concurrency).watch
    try:
        transport.send([head])
    except (OSError, ValueError):
        ws.lose("the connection was lost before the handshake was answered")
    return ws


def _make_transport(takeover: Takeover, server_socket: ServerSocket) -> Transport:
    make = PlainTransport if takeover.sslobj is None else TLSTransport
    return make(takeover.sock, server_socket.concurrency, takeover.close)
