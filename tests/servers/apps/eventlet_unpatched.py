import sys

import eventlet
import live
from eventlet import wsgi

live.pause, live.spawn = eventlet.sleep, eventlet.spawn
wsgi.server(eventlet.listen(("127.0.0.1", int(sys.argv[1]))), live.app)
