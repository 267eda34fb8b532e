import sys

import gevent
import live
from gevent.pywsgi import WSGIServer

live.pause = gevent.sleep
try:
    WSGIServer(("127.0.0.1", int(sys.argv[1])), live.app).serve_forever()
except KeyboardInterrupt:
    pass
