# Patching comes before every other import.
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import sys

from gevent.pywsgi import WSGIServer

from flask_ws.testing.suite.live import app

try:
    WSGIServer(("127.0.0.1", int(sys.argv[1])), app).serve_forever()
except KeyboardInterrupt:
    pass
