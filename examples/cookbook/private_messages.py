"""Private messages: each user has a channel of their own, for all of their tabs and phones."""

from __future__ import annotations

import os
import secrets

from flask import Flask, abort, json, render_template_string, request, session
from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
app.config.from_mapping(
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(), SOCK_MAX_MESSAGE_SIZE=4096
)
sock = Sock(app)

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Private messages</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<form>
  <input id="to" aria-label="To" placeholder="To"> <input id="text" aria-label="Message">
  <button>Send</button>
</form>
<ul></ul>
<script>
  const find = (name) => document.querySelector(name);
  let ws;
  async function start() {
    // Instead of a real login.
    await fetch("/login", { method: "POST", body: new URLSearchParams({ name: prompt("Name?") }) });
    ws = new WebSocket({{ url_for("Messages")|tojson }});
    ws.onmessage = (event) => {
      const { from, text } = JSON.parse(event.data);
      const line = document.createElement("li");
      line.textContent = `${from}: ${text}`;
      find("ul").append(line);
    };
  }
  find("form").onsubmit = (event) => {
    event.preventDefault();
    ws.send(JSON.stringify({ to: find("#to").value, text: find("#text").value }));
    find("#text").value = "";
  };
  start();
</script>
"""


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


@app.post("/login")
def login() -> tuple[str, int]:
    """Log in without a password: put your own login here."""
    session["name"] = request.form["name"]
    return "", 204


@app.before_request
def require_login() -> None:
    if request.endpoint == "Messages" and "name" not in session:
        abort(401)


@sock.route("/messages")
class Messages(WebSocketView):
    def on_open(self, ws: WebSocket) -> None:
        self.name = session["name"]
        ws.subscribe(f"user:{self.name}")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        try:
            data = json.loads(message)
            to, text = str(data["to"]), str(data["text"])
        except (ValueError, TypeError, KeyError):
            ws.close(1008, "A message has a receiver and a text.")
            return
        said = {"from": self.name, "text": text}
        sock.publish_json(f"user:{to}", said)
        # The sender's own screens show it, too.
        if to != self.name:
            sock.publish_json(f"user:{self.name}", said)
