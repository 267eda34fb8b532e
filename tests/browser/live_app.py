"""Numbers on a channel with history, a page that collects them, and an echo."""

from __future__ import annotations

import os

from flask import Flask, render_template_string, request

from flask_ws import ChannelView, Sock, WebSocket

app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ.get("SOCK_BROKER_URL", "memory://")
app.config["SOCK_HISTORY"] = {"numbers": (10_000, 300)}
sock = Sock(app)
sock.identify(lambda: request.args.get("user", "ada"))

PAGE = """<!doctype html>
<title>Numbers</title>
<link rel="icon" href="data:,">
{{ flask_ws.script() }}
<script type="module">
  import { Live, Refused, Socket } from "flask-ws";
  Object.assign(window, { Live, Refused, Socket, gaps: 0 });
  Object.assign(window, { seen: [], states: [], direct: [], told: [] });
  window.live = new Live("live", { minDelay: 50, maxDelay: 400, probeTimeout: 300 });
  live.onstate = (state) => states.push(state);
  live.onmessage = (data) => direct.push(data instanceof Uint8Array ? [...data] : data);
  window.room = live.subscribe("numbers", { since: {{ position|tojson }} });
  room.onmessage = (number) => seen.push(number);
  room.ongap = () => gaps += 1;
  room.onpresence = (members, { event, key }) => told.push(`${event} ${key ?? members.size}`);
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

    def may_join(self, ws: WebSocket, channel: str, info: object) -> object:
        return channel == "numbers" and {"is": info}


@sock.route("/echo", subprotocols="echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)
        if message == "leave":
            ws.close(4001, "left")
