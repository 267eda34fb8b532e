import sys

from flask_ws.testing.suite.live import app

app.run(port=int(sys.argv[1]), processes=100, threaded=False)
