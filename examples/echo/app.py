"""The smallest WebSocket route: what comes in goes out."""

from __future__ import annotations

from flask import Flask, render_template
from flask_ws import Sock, WebSocket

app = Flask(__name__)
sock = Sock(app)


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("echo.html")


@sock.route("/echo")
def echo(ws: WebSocket) -> None:
    """Send each message back."""
    for message in ws:
        ws.send(message)
