import signal
import sys

from flask_ws.testing.suite.live import app

signal.signal(signal.SIGTERM, signal.default_int_handler)

app.run(port=int(sys.argv[1]))
