"""flask-ws on Werkzeug's development server: ``flask run`` and ``app.run()``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from flask_ws import ServerSocket, hookimpl, take_buffered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket that the server puts into the environ."""
    sock = environ.get("werkzeug.socket")
    if sock is None:
        return None
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, environ["wsgi.input"], sock),
        # With threads each request has its own; a forked child ends with its request.
        detach=not (environ["wsgi.multithread"] or environ["wsgi.multiprocess"]),
        detachable=not environ["wsgi.multiprocess"],
    )
