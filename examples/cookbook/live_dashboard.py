"""Live dashboard: every open page shows each change at once."""

from __future__ import annotations

import threading

from flask import Flask, render_template_string, request
from flask_ws import Sock, WebSocket, WebSocketView

app = Flask(__name__)
sock = Sock(app)

totals = {"orders": 0, "amount": 0}
# Who opens the page gets the totals, then each change: none is missed between the two.
lock = threading.Lock()

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Dashboard</title>
<style>
  :root { color-scheme: light dark; font: 1rem system-ui; }
  dd { margin: 0 0 1rem; font-size: 3rem; }
</style>
<dl><dt>Orders</dt><dd id="orders">?</dd><dt>Amount</dt><dd id="amount">?</dd></dl>
<button>Order for 5</button>
<script>
  const ws = new WebSocket({{ url_for("Live")|tojson }});
  ws.onmessage = (event) => {
    for (const [name, value] of Object.entries(JSON.parse(event.data))) {
      document.getElementById(name).textContent = value;
    }
  };
  document.querySelector("button").onclick = () =>
    fetch("/orders", { method: "POST", body: new URLSearchParams({ amount: 5 }) });
</script>
"""


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


@sock.route("/live")
class Live(WebSocketView):
    def on_open(self, ws: WebSocket) -> None:
        with lock:
            ws.send_json(totals)
            ws.subscribe("totals")


@app.post("/orders")
def order() -> tuple[str, int]:
    amount = request.form.get("amount", 0, int)
    with lock:
        totals["orders"] += 1
        totals["amount"] += amount
        sock.publish_json("totals", totals)
    return "", 204
