"""An app with one room: connections join it, watch it, and ask who is there."""

import logging
import os

from flask import Flask

from flask_ws import Sock, WebSocketView

logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(message)s")
app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ["BROKER_URL"]
sock = Sock(app)
os.write(2, b"LIVE loaded\n")


@app.get("/http")
def http():
    return "http"


@app.get("/presence")
def presence():
    return {"pid": os.getpid(), "present": sock.presence("room")}


@sock.route("/join/<key>")
class Join(WebSocketView):
    def on_open(self, ws, key):
        ws.join("room", key=key, info={"name": f"user {key}"})
        ws.send(str(os.getpid()))


@sock.route("/watch")
class Watch(WebSocketView):
    def on_open(self, ws):
        ws.send(str(os.getpid()))
        ws.subscribe_presence("room")
