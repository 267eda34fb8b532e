import sys

import gevent
from gevent.pywsgi import WSGIServer

from flask_ws.testing.suite import live

live.primitives.pause, live.primitives.spawn = gevent.sleep, gevent.spawn
try:
    WSGIServer(("127.0.0.1", int(sys.argv[1])), live.app).serve_forever()
except KeyboardInterrupt:
    pass
