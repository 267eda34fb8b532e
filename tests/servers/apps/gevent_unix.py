# Patching comes before every other import.
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import socket
import sys

from gevent.pywsgi import WSGIServer

from flask_ws.testing.suite.live import app

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(100)
try:
    WSGIServer(listener, app).serve_forever()
except KeyboardInterrupt:
    pass
