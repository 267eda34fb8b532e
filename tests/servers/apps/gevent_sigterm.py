# Patching comes before every other import.
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import signal
import sys

import gevent
from gevent.pywsgi import WSGIServer

from flask_ws.testing.suite.live import app

server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app)
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
