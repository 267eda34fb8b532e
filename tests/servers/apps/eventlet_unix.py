# Patching comes before every other import.
# ruff: noqa: E402

import eventlet

eventlet.monkey_patch()

import socket
import sys

from eventlet import wsgi

from flask_ws.testing.suite.live import app

wsgi.server(eventlet.listen(sys.argv[1], family=socket.AF_UNIX), app)
