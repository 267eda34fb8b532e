"""gevent's own server, monkey-patched or not."""

from __future__ import annotations

import sys

import gevent.monkey

if "patched" in sys.argv:
    gevent.monkey.patch_all()

from gevent.pywsgi import WSGIServer
from windows_app import app

WSGIServer(("127.0.0.1", int(sys.argv[1])), app).serve_forever()
