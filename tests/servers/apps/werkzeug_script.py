import sys

from live import app

app.run(port=int(sys.argv[1]))
