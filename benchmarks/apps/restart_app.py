"""An event view, and a page beside it; how goodbyes are spread is an argument of the benchmark."""

from __future__ import annotations

import os

from flask import Flask

from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
app.config["SOCK_DRAIN"] = float(os.environ.get("DRAIN", "20"))
app.config["SOCK_COMPRESSION"] = False
sock = Sock(app)


@sock.route("/feed")
class Feed(WebSocketView):
    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


@app.get("/")
def page() -> str:
    return str(os.getpid())
