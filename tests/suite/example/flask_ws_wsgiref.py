"""flask-ws on the standard library's server: a whole plugin."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from flask_ws import ServerSocket, hookimpl, take_buffered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    if not environ.get("SERVER_SOFTWARE", "").startswith("WSGIServer/"):
        return None
    reader = environ["wsgi.input"]
    sock = reader.raw._sock
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        # Each request has a thread of its own, on which the handler may stay.
        detachable=True,
        is_stopping=environ["wsgiref.is_stopping"],
    )
