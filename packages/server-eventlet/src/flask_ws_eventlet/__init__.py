"""flask-ws on Eventlet's own server, ``eventlet.wsgi.server``, monkey-patched or not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from flask_ws import ServerSocket, hookimpl, take_buffered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from the request's body."""
    body = environ.get("eventlet.input")
    if body is None:
        return None
    # Not before a request of eventlet's own: a process that runs another server need not import it.
    from .greenlets import greenlets

    sock = body.get_socket()
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, body.rfile, sock),
        is_stopping=_find_is_stopping(environ),
        concurrency=greenlets,
    )


def _find_is_stopping(environ: WSGIEnvironment) -> Callable[[], bool]:
    """Return a function that tells whether the server has been interrupted.

    The server marks all its connections closed then, and waits for their handlers.
    """
    set_idle = environ["eventlet.set_idle"]
    for cell in set_idle.__closure__ or ():
        state = getattr(cell.cell_contents, "conn_state", None)
        if isinstance(state, list) and len(state) == 3:
            return lambda: state[2] == "close"
    # The server then cuts idle connections off by itself: no close frame, but no waiting either.
    set_idle()
    return lambda: False
