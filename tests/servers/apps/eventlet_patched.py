# Patching comes before every other import.
# ruff: noqa: E402

import eventlet

eventlet.monkey_patch()

import sys

from eventlet import wsgi

from flask_ws.testing.suite.live import app

wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), app)
