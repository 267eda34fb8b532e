"""The app under test. Handlers record what they see on standard error, tagged by `?tag=`.

- ``base``: the app itself, and what its routes share.
- ``handlers``, and as async functions, by the same names: ``coroutines``.
- ``events``: event views, and with async methods: ``async_events``.
- ``channels``, ``http``: views of both kinds on channels, and beside WebSockets.
- ``contract``, ``checkers``: record what a plugin's hook does, and whether PEP 3333 is kept to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

# Importing them registers their routes.
from . import async_events, channels, contract, events, handlers, http  # noqa: F401
from .base import app, primitives, record, route

__all__ = ["app", "primitives", "record", "route"]


class Proxied:
    """The app; for paths below /proxied, behind one trusted proxy."""

    def __init__(self, wsgi_app: Callable[..., Any]) -> None:
        self.direct = wsgi_app
        self.fixed = ProxyFix(wsgi_app, x_host=1)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        if not path.startswith("/proxied/"):
            return self.direct(environ, start_response)
        environ["SCRIPT_NAME"] += "/proxied"
        environ["PATH_INFO"] = path.removeprefix("/proxied")
        return self.fixed(environ, start_response)


app.wsgi_app = Proxied(app.wsgi_app)  # type: ignore[method-assign]
