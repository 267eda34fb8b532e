"""An app whose clients are sent a channel with positions, and told of gaps."""

import logging
import os

from flask import Flask, request

from flask_ws import Sock

logging.basicConfig(format="%(levelname)s %(process)d %(message)s")
app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ["BROKER_URL"]
app.config["SOCK_HISTORY"] = {"*": (2000, 600)}
sock = Sock(app)
os.write(2, b"LIVE loaded\n")


@app.get("/http")
def http():
    return "http"


@app.post("/publish/<channel>")
def publish(channel):
    return str(sock.publish(channel, request.get_data(as_text=True)).position)


@sock.route("/publish")
def publisher(ws):
    for message in ws:
        channel, _, data = message.partition(" ")
        ws.send(str(sock.publish(channel, data).position))


@sock.route("/listen/<channel>")
def listen(ws, channel):
    with sock.listen(channel, since=request.args.get("since")) as messages:
        ws.send(f"{messages.position} {'whole' if messages.recovered else 'gap'}")
        while ws.connected:
            message = messages.receive(timeout=0.2)
            if message is not None:
                gap = "gap" if message.after_gap else "whole"
                ws.send(f"{message.position} {gap} {message.data}")
