"""Rooms: what one says, everyone in the same room hears."""

from __future__ import annotations

from flask import Flask, render_template_string
from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
sock = Sock(app)

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Rooms</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<h1>Room: {{ name }}</h1>
<form><input autofocus aria-label="Message"> <button>Say</button></form>
<ul></ul>
<script>
  const find = (name) => document.querySelector(name);
  const ws = new WebSocket({{ url_for("Room", name=name)|tojson }});
  ws.onmessage = (event) => {
    const line = document.createElement("li");
    line.textContent = event.data;
    find("ul").append(line);
  };
  find("form").onsubmit = (event) => {
    event.preventDefault();
    ws.send(find("input").value);
    find("input").value = "";
  };
</script>
"""


@app.get("/", defaults={"name": "lobby"})
@app.get("/<name>")
def page(name: str) -> str:
    return render_template_string(PAGE, name=name)


@sock.route("/rooms/<name>", max_message_size=4096)
class Room(WebSocketView):
    def on_open(self, ws: WebSocket, name: str) -> None:
        self.channel = f"room:{name}"
        ws.subscribe(self.channel)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        sock.publish(self.channel, message)
