"""flask-ws on gevent's own server, ``gevent.pywsgi.WSGIServer``, monkey-patched or not."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask_ws import ServerSocket, hookimpl, take_buffered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from below the reader of the request's body."""
    # gunicorn's gevent_pywsgi worker names itself in the same way, and is the same server.
    if not str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent/"):
        return None
    if "gunicorn.socket" in environ:
        return None
    body = environ["wsgi.input"]
    # pywsgi gives an upgrade its reader as it is.
    reader: Any = getattr(body, "rfile", body)
    sock = getattr(getattr(reader, "raw", None), "_sock", None)
    if sock is None:
        return None
    # Not before a request of gevent's own: a process that runs another server need not import it.
    from .greenlets import greenlets

    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        concurrency=greenlets,
    )
