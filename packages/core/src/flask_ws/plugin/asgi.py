"""Flask behind a wrapper on an ASGI server, which has no socket for a WSGI app: what to do then.

Each wrapper calls the app for HTTP requests; most refuse a WebSocket by themselves.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["ADVICE", "SERVED", "find_wrapper", "wrapped"]

#: The key of an ASGI scope whose server has its WebSockets served as well.
SERVED = "flask_ws.asgi"

ADVICE = (
    'To serve its WebSockets too, give the server asgi = ASGI(app): "from flask_ws_asgi import '
    'ASGI", which pip install "flask-ws[asgi]" brings'
)

#: The modules that call a WSGI app for an ASGI server, and what their users call them.
WRAPPERS = {
    "a2wsgi.wsgi": "a2wsgi's WSGIMiddleware",
    "asgiref.wsgi": "asgiref's WsgiToAsgi",
    "hypercorn.app_wrappers": "Hypercorn's wrapper for WSGI",
    "starlette.middleware.wsgi": "Starlette's WSGIMiddleware",
    "uvicorn.middleware.wsgi": "uvicorn's interface for WSGI",
}


def find_wrapper(environ: WSGIEnvironment) -> str | None:
    """Name what calls the app for an ASGI server, and passes no WebSockets on; ``None`` if nothing.

    :param environ: the current request, which this thread serves.
    """
    scope = environ.get("asgi.scope")
    if scope is not None and SERVED in scope:
        return None
    if environ.get("SERVER_SOFTWARE") == "Granian":
        return "Granian's interface for WSGI"
    # Most leave nothing in the environ that tells them from others.
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        frame = caller
        if (name := WRAPPERS.get(frame.f_globals.get("__name__", ""))) is not None:
            return name
    return None if scope is None else "a wrapper for WSGI"


def wrapped(wrapper: str) -> str:
    """Say that no WebSocket comes through a wrapper, and what to do about it."""
    return f"The app runs behind {wrapper}, which passes no WebSockets on. {ADVICE}."
