"""An echo that knows who its client is, a page that ends a user's connections, and rechecks."""

from __future__ import annotations

import os

from flask import Flask, request

from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
app.config["SOCK_COMPRESSION"] = False
app.config["SOCK_BROKER_URL"] = os.environ.get("BROKER_URL", "memory://")
sock = Sock(app)


@sock.identify
def who() -> str | None:
    return request.args.get("who")


if "RECHECK_SECONDS" in os.environ:

    @sock.recheck(seconds=float(os.environ["RECHECK_SECONDS"]))
    def may_stay(ws: WebSocket) -> bool:
        return ws.identity != ""


@sock.route("/echo")
class Echo(WebSocketView):
    def on_open(self, ws: WebSocket) -> None:
        if ws.identity == "kicked":
            ws.send(str(os.getpid()))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


@app.post("/kick")
def kick() -> str:
    return str(sock.disconnect("kicked"))
