import signal
import sys

from live import app

signal.signal(signal.SIGTERM, signal.default_int_handler)

app.run(port=int(sys.argv[1]))
