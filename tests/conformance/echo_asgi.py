"""The same echo, for an ASGI server."""

from echo_app import app

from flask_ws_asgi import ASGI

asgi = ASGI(app)
