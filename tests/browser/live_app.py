"""Numbers on a channel with history, a page that collects them, and an echo."""

from __future__ import annotations

import os

from flask import Flask, render_template_string

from flask_ws import ChannelView, Sock, WebSocket

app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ.get("SOCK_BROKER_URL", "memory://")
app.config["SOCK_HISTORY"] = {"numbers": (10_000, 300)}
sock = Sock(app)
sock.identify(lambda: "ada")

PAGE = """<!doctype html>
<title>Numbers</title>
<link rel="icon" href="data:,">
{{ flask_ws.script() }}
<script type="module">
  import { Live, Refused, Socket } from "flask-ws";
  Object.assign(window, { Live, Refused, Socket, seen: [], gaps: 0, states: [], direct: [] });
  window.live = new Live("live", { minDelay: 50, maxDelay: 400, probeTimeout: 300 });
  live.onstate = (state) => states.push(state);
  live.onmessage = (data) => direct.push(data instanceof Uint8Array ? [...data] : data);
  window.room = live.subscribe("numbers", { since: {{ position|tojson }} });
  room.onmessage = (number) => seen.push(number);
  room.ongap = () => gaps += 1;
</script>
"""


@app.get("/")
def index() -> str:
    return render_template_string(PAGE, position=sock.position("numbers"))


@sock.route("/live")
class Live(ChannelView):
    def on_open(self, ws: WebSocket) -> None:
        # As a later version may; the id is that of the first request.
        ws.send_json({"type": "later", "channel": "numbers", "id": 1})

    def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
        return channel == "numbers"

    def may_publish(self, ws: WebSocket, channel: str, data: object) -> bool:
        return channel == "numbers"


@sock.route("/echo", subprotocols="echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)
        if message == "leave":
            ws.close(4001, "left")
