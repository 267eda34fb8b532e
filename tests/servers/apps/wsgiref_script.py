"""A server that no plugin knows."""

import sys
from wsgiref.simple_server import make_server

from flask_ws.testing.suite.live import app

make_server("127.0.0.1", int(sys.argv[1]), app).serve_forever()
