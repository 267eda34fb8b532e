"""Serve the app of flask-ws's suite with TLS: python serve_tls.py ADAPTER PORT CERT KEY."""

from __future__ import annotations

import sys

from cheroot.server import get_ssl_adapter_class
from cheroot.wsgi import Server
from flask_ws.testing.suite.live import app

adapter, port, cert, key = sys.argv[1:]
server = Server(("127.0.0.1", int(port)), app)
server.ssl_adapter = get_ssl_adapter_class(adapter)(cert, key)
try:
    server.start()
except KeyboardInterrupt:
    server.stop()
