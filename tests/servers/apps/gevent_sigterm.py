# Patching comes before every other import.
# ruff: noqa: E402

from gevent import monkey

monkey.patch_all()

import signal
import sys

from gevent.pywsgi import WSGIServer
from live import app

signal.signal(signal.SIGTERM, signal.default_int_handler)

try:
    WSGIServer(("127.0.0.1", int(sys.argv[1])), app).serve_forever()
except KeyboardInterrupt:
    pass
