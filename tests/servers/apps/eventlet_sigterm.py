# Patching comes before every other import.
# ruff: noqa: E402

import eventlet

eventlet.monkey_patch()

import signal
import sys

from eventlet import wsgi

from flask_ws.testing.suite.live import app

signal.signal(signal.SIGTERM, signal.default_int_handler)

wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), app)
