from __future__ import annotations

import os

from flask import Flask

import flask_ws
from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
# The defaults are for one process of a site; here one process is given all there is.
app.config["SOCK_MAX_THREADS"] = app.config["SOCK_MAX_CONNECTIONS"] = 20_000
# A commit from before there were async handlers can be measured too.
HAS_ASYNC = hasattr(flask_ws, "AsyncWebSocket")
if HAS_ASYNC:
    app.config["SOCK_UVLOOP"] = os.environ.get("FLASK_WS_UVLOOP") != "0"
sock = Sock(app)
if kind := os.environ.get("FLASK_WS_METRICS"):
    # Only here: others do without these packages.
    from benchmarks.apps.metrics import collect

    collect(app, kind)
subscribers: set[WebSocket] = set()
viewers: set[WebSocket] = set()


@app.get("/page")
def page() -> str:
    return "hello, client"


@sock.route("/echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@sock.route("/subscribe")
def subscribe(ws: WebSocket) -> None:
    subscribers.add(ws)
    try:
        ws.send("ready")
        for _ in ws:
            pass
    finally:
        subscribers.discard(ws)


@sock.route("/publish")
def publish(ws: WebSocket) -> None:
    for message in ws:
        for each in list(subscribers):
            each.send(message)


@sock.route("/view/echo")
class Echo(WebSocketView):
    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


@sock.route("/view/subscribe")
class Subscribe(WebSocketView):
    def on_open(self, ws: WebSocket, **_: object) -> None:
        viewers.add(ws)
        ws.send("ready")

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        viewers.discard(ws)


@sock.route("/view/publish")
class Publish(WebSocketView):
    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        for each in list(viewers):
            each.send(message)


# A commit from before there were channels can be measured too.
if hasattr(Sock, "publish"):

    @sock.route("/channel/subscribe")
    class SubscribeChannel(WebSocketView):
        def on_open(self, ws: WebSocket, **_: object) -> None:
            ws.subscribe("news")
            ws.send("ready")

    @sock.route("/channel/publish")
    class PublishChannel(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            sock.publish("news", message)


if HAS_ASYNC:

    @sock.route("/async/echo")
    async def echo_async(ws: flask_ws.AsyncWebSocket) -> None:
        async for message in ws:
            await ws.send(message)
