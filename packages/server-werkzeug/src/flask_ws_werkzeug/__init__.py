"""flask-ws on Werkzeug's development server: ``flask run`` and ``app.run()``."""

from __future__ import annotations

import functools
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_ws import ServerSocket, hookimpl, take_buffered, unwrap_input

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.serving import WSGIRequestHandler

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket that the server puts into the environ."""
    sock = environ.get("werkzeug.socket")
    if sock is None:
        return None
    handler = _find_handler()
    if handler is not None and "CONTENT_LENGTH" in environ:
        # Of several headers, the server passes on only the last.
        environ["CONTENT_LENGTH"] = ",".join(handler.headers.get_all("content-length", []))
    reader = unwrap_input(environ, _is_reader)
    server_socket = ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        # With threads each request has its own; a forked child ends with its request.
        detach=not (environ["wsgi.multithread"] or environ["wsgi.multiprocess"]),
        detachable=not environ["wsgi.multiprocess"],
    )
    if handler is not None:
        server_socket.is_stopping = _IsStopping(handler.server)
    return server_socket


# Equal for all connections of one server.
@dataclass(frozen=True)
class _IsStopping:
    """Asks a server whether its ``shutdown()`` was called, or whether it has been closed."""

    server: Any

    def __call__(self) -> bool:
        # The first while it waits for a handler in its own thread; the loop takes it back as it
        # ends, and the server closes its socket.
        return (
            getattr(self.server, "_BaseServer__shutdown_request", False)
            or self.server.socket.fileno() == -1
        )


def _is_reader(stream: Any) -> bool:
    return isinstance(getattr(stream, "raw", None), socket.SocketIO)


def _find_handler() -> WSGIRequestHandler | None:
    """Find what serves the current request; ``None`` if another thread has called the app."""
    from werkzeug.serving import WSGIRequestHandler

    # The handler that called the app can be found only on the stack.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        handler = frame.f_locals.get("self")
        if isinstance(handler, WSGIRequestHandler):
            return handler
        frame = frame.f_back
    return None
