import sys

import eventlet
from eventlet import wsgi

from flask_ws.testing.suite import live

live.pause, live.spawn = eventlet.sleep, eventlet.spawn
wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), live.app)
