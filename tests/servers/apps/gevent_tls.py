# Patching comes before every other import.
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import sys

from gevent.pywsgi import WSGIServer

from flask_ws.testing.suite.live import app

_, port, cert, key = sys.argv
try:
    WSGIServer(("127.0.0.1", int(port)), app, certfile=cert, keyfile=key).serve_forever()
except KeyboardInterrupt:
    pass
