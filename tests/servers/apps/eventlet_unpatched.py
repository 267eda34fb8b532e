import sys

import eventlet
from eventlet import wsgi

from flask_ws.testing.suite import live

live.primitives.pause, live.primitives.spawn = eventlet.sleep, eventlet.spawn
wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), live.app)
