"""Run by uvicorn: the app with its WebSockets, and what serves its HTTP requests by itself."""

from __future__ import annotations

from a2wsgi import WSGIMiddleware

from benchmarks.apps.flask_ws_app import app
from flask_ws_asgi import ASGI

asgi = ASGI(app)
http = WSGIMiddleware(app)
