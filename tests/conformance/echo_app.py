"""The echo that the fuzzing client talks to."""

from __future__ import annotations

import os

from flask import Flask

from flask_ws import AsyncWebSocket, Sock, WebSocket, WebSocketView

app = Flask(__name__)
# The largest message of the suite is 16 MiB.
app.config["SOCK_MAX_MESSAGE_SIZE"] = 2**24
app.config["SOCK_UVLOOP"] = os.environ.get("ECHO_LOOP") == "uvloop"
sock = Sock(app)


@sock.route("/echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@sock.route("/view")
class Echo(WebSocketView):
    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


@sock.route("/async")
async def echo_async(ws: AsyncWebSocket) -> None:
    async for message in ws:
        await ws.send(message)
