"""What the tests run on CPython for Windows."""

from __future__ import annotations

import os
import queue
from typing import Any

from flask import Flask

from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ.get("BROKER_URL", "memory://")
# The tests' clients answer no pings, and Wine takes its time.
app.config["SOCK_PING_INTERVAL"] = 300
sock = Sock(app)
ended: queue.Queue[str] = queue.Queue()


@sock.route("/echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@sock.route("/view")
class View(WebSocketView):
    def on_message(self, ws: WebSocket, message: Any) -> None:
        ws.send(message)


@sock.route("/impatient", ping_interval=0.2, ping_timeout=0.2)
def impatient(ws: WebSocket) -> None:
    assert list(ws) == []
    ended.put(str(ws.close_code))


@sock.route("/impatient-view", ping_interval=0.2, ping_timeout=0.2)
class ImpatientView(WebSocketView):
    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        ended.put(str(code))


@app.get("/ended")
def get_ended() -> str:
    """The close code of the next connection that ends."""
    return ended.get(timeout=10)


@sock.route("/channel")
class Channel(WebSocketView):
    def on_open(self, ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("subscribed")


@app.get("/publish/<text>")
def publish(text: str) -> str:
    sock.publish("news", text)
    return text
