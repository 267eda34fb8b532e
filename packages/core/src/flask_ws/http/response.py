"""The response that answers 101: when the server calls it, the WebSocket lives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import flask
from werkzeug.wsgi import ClosingIterator

from ..loop.monitor import monitor_for
from ..views.context import move_request
from .detach import DISPATCH, NOTHING, Dispatch
from .handshake import log_refusal, too_many_connections
from .link import Link, Upgrade
from .takeover import Takeover

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["WebSocketResponse"]

SWITCHING_PROTOCOLS = 101

#: Of the headers that Flask gives every response, those that say nothing about a 101.
BODY_HEADERS = frozenset({"content-type", "content-length"})


class WebSocketResponse(flask.Response):
    """A response of status 101. To call it is to take the connection and to serve it.

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
        upgrade = self.upgrade
        monitor = monitor_for(upgrade.server_socket.concurrency)
        if not monitor.admit(upgrade.options.max_connections):
            # Others have taken the last places since the handshake was accepted.
            error = too_many_connections(upgrade.options)
            log_refusal(flask.request, error.code, error.description)
            return error.get_response(environ)(environ, start_response)
        dispatch: Dispatch | None = environ.pop(DISPATCH, None)
        try:
            link = self._open(environ, dispatch)
        except BaseException:
            monitor.dismiss()
            raise
        try:
            link.run()
        except BaseException:
            # The server gets no iterable to close.
            if dispatch is None or not dispatch.released:
                link.takeover.drain()
            raise
        if dispatch is not None and dispatch.released:
            # The server has its answer already.
            return ClosingIterator([], self.close)
        start_response("101 Switching Protocols", [])
        return ClosingIterator(NOTHING, [link.takeover.drain, self.close])

    def _open(self, environ: WSGIEnvironment, dispatch: Dispatch | None) -> Link:
        """Take the connection, and send the 101."""
        upgrade = self.upgrade
        server_socket = upgrade.server_socket
        takeover = Takeover(server_socket.sock)
        # Before anything else touches the server's socket.
        early = server_socket.take_read_ahead()
        # TLS needs a thread to wait, and a detached connection one of our own.
        on_reactor = (
            isinstance(upgrade.target, type)
            and upgrade.options.detach
            and takeover.sslobj is None
            and (server_socket.detach or server_socket.detachable)
        )
        detached = on_reactor or (dispatch is not None and upgrade.options.detach)
        if detached:
            takeover.detach()
            if dispatch is not None:
                environ = dispatch.copy_environ()
                move_request(environ)
        link = Link(upgrade, takeover, environ, on_reactor=on_reactor)
        link.begin(self._head(environ), early)
        if detached and dispatch is not None:
            # Not earlier: until this thread waits for something, the two would only be in each
            # other's way.
            dispatch.release(takeover.drain)
        return link

    def _head(self, environ: WSGIEnvironment) -> bytes:
        lines = ["HTTP/1.1 101 Switching Protocols"]
        lines += [
            f"{name}: {value}"
            for name, value in self.get_wsgi_headers(environ)
            if name.lower() not in BODY_HEADERS
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")
