"""flask-ws on Werkzeug's development server: ``flask run`` and ``app.run()``."""

from __future__ import annotations

import functools
import socket
import sys
from typing import TYPE_CHECKING, Any

from flask_ws import ServerSocket, hookimpl, take_buffered, unwrap_input

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket that the server puts into the environ."""
    sock = environ.get("werkzeug.socket")
    if sock is None:
        return None
    if "CONTENT_LENGTH" in environ:
        # Of several headers, the server passes on only the last.
        environ["CONTENT_LENGTH"] = ",".join(_find_lengths())
    reader = unwrap_input(environ, _is_reader)
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        # With threads each request has its own; a forked child ends with its request.
        detach=not (environ["wsgi.multithread"] or environ["wsgi.multiprocess"]),
        detachable=not environ["wsgi.multiprocess"],
    )


def _is_reader(stream: Any) -> bool:
    return isinstance(getattr(stream, "raw", None), socket.SocketIO)


def _find_lengths() -> list[str]:
    """Return the Content-Length headers of the current request."""
    from werkzeug.serving import WSGIRequestHandler

    # The handler that called the app can be found only on the stack.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        handler = frame.f_locals.get("self")
        if isinstance(handler, WSGIRequestHandler):
            return handler.headers.get_all("content-length", [])
        frame = frame.f_back
    return []
