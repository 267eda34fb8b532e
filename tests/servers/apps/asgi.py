"""The app under test, for an ASGI server."""

from flask_ws.testing.suite.live import app
from flask_ws_asgi import ASGI

asgi = ASGI(app)
