"""flask-ws on ASGI servers: Uvicorn, Hypercorn, Granian, and Gunicorn's ASGI worker.

::

    # asgi.py
    from flask_ws_asgi import ASGI
    from app import app

    asgi = ASGI(app)

Then ``uvicorn asgi:asgi``. The app stays as it is.

- ``application``: the ASGI application.
- ``environ``: the WSGI environ of a handshake.
- ``exchange``: one handshake, and the connection after it.
- ``plain``: HTTP requests.
- ``signals``: hearing of signals before the server does.
- ``stopping``: noticing that the server stops.
- ``workers``: how many processes the server has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask_ws import ServerSocket, hookimpl

from .application import ASGI
from .environ import MESSAGES

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .exchange import Exchange

__all__ = ["ASGI", "flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the connection from the environ, where :class:`ASGI` has put it."""
    exchange: Exchange | None = environ.get(MESSAGES)
    if exchange is None:
        return None
    stopping = exchange.stopping
    return ServerSocket.of_messages(exchange, is_stopping=stopping, stop_timeout=stopping.timeout)
