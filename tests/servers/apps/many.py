"""An app whose clients and publishers may be on any of many processes."""

import logging
import os
import sys

from flask import Flask, request

from flask_ws import Sock, WebSocketView

logging.basicConfig(format="%(levelname)s %(process)d %(message)s")
app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ["BROKER_URL"]
app.config["SOCK_MAX_OUTBOX"] = 200_000
app.config["SOCK_CLOSE_TIMEOUT"] = 1
sock = Sock(app)
# The first of many processes answers while others begin.
os.write(2, b"LIVE loaded\n")


@app.get("/http")
def http():
    return "http"


@app.post("/publish/<channel>")
def publish(channel):
    sock.publish(channel, request.get_data(as_text=True))
    return str(os.getpid())


@sock.identify
def identify():
    return (request.view_args or {}).get("user")


@app.get("/disconnect/<user>")
def disconnect(user):
    number = sock.connections(user)
    sock.disconnect(user)
    return str(number)


@sock.route("/users/<user>/<channels>", endpoint="users")
@sock.route("/events/<channels>")
class Events(WebSocketView):
    """Subscribed to channels; publishes what it is told to."""

    def on_open(self, ws, channels, user=None):
        for channel in channels.split(","):
            ws.subscribe(channel)
        ws.send(f"ready {os.getpid()}")

    def on_message(self, ws, message):
        channel, _, data = message.partition(" ")
        sock.publish(channel, data)
        ws.send("published")


@sock.route("/handler/<channels>")
def handler(ws, channels):
    """The same, as a handler that blocks."""
    view = Events()
    view.on_open(ws, channels)
    for message in ws:
        view.on_message(ws, message)


def serve_gevent(port):
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", port), app).serve_forever()


def serve_eventlet(port):
    import eventlet
    from eventlet import wsgi

    wsgi.server(eventlet.listen(("127.0.0.1", port)), app)


if __name__ == "__main__":
    # With nothing monkey-patched.
    {"gevent": serve_gevent, "eventlet": serve_eventlet}[sys.argv[1]](int(sys.argv[2]))
