"""Notifications: to one user, or to all, from anywhere in the app.

Other programs do it on the command line, given a broker that all processes reach:

    flask --app notifications ws publish everyone "Back at five."
"""

from __future__ import annotations

import os
import secrets

from flask import Flask, abort, render_template_string, request, session
from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY") or secrets.token_hex()
sock = Sock(app)

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Notifications</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<h1>Notifications</h1>
<ul aria-live="polite"></ul>
<script>
  let failures = 0;
  function connect() {
    const ws = new WebSocket({{ url_for("Notifications")|tojson }});
    ws.onopen = () => { failures = 0; };
    ws.onmessage = (event) => {
      const line = document.createElement("li");
      line.textContent = event.data;
      document.querySelector("ul").prepend(line);
    };
    // Reconnect, later each time, and not in step with all others.
    ws.onclose = () => {
      failures += 1;
      setTimeout(connect, Math.random() * Math.min(30, 2 ** failures) * 1000);
    };
  }
  connect();
</script>
"""


@app.get("/")
def index() -> str:
    session.setdefault("user", secrets.token_hex(4))
    return render_template_string(PAGE)


@app.before_request
def require_user() -> None:
    if request.endpoint == "Notifications" and "user" not in session:
        abort(401)


@sock.route("/notifications")
class Notifications(WebSocketView):
    """It has no thread, so ten thousand users may be connected."""

    def on_open(self, ws: WebSocket) -> None:
        ws.subscribe("everyone")
        ws.subscribe(f"user:{session['user']}")


def notify(text: str, user: str | None = None) -> None:
    """Call this wherever something happens; outside a request, in an app context."""
    sock.publish("everyone" if user is None else f"user:{user}", text)


@app.post("/orders")
def order() -> tuple[str, int]:
    notify("Your order is on its way.", session.get("user"))
    return "", 204
