"""The same, for an ASGI server."""

from tests.browser.every_example import app

from flask_ws_asgi import ASGI

asgi = ASGI(app)
