# Patching comes before every other import.
# ruff: noqa: E402

import eventlet

eventlet.monkey_patch()

import sys

from eventlet import wsgi

from flask_ws.testing.suite.live import app

_, port, cert, key = sys.argv
listener = eventlet.listen(("127.0.0.1", int(port)))
wsgi.server(eventlet.wrap_ssl(listener, certfile=cert, keyfile=key, server_side=True), app)
