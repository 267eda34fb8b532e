"""A live dashboard: the server measures, and pushes to everyone who looks.

Nobody's thread waits for a viewer: an idle connection of an event view costs next to nothing,
and sending to one does not wait for a slow reader.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque

import psutil
from flask import Flask, render_template
from flask_ws import ConnectionClosed, Sock, WebSocket, WebSocketView

#: Seconds from one sample to the next.
INTERVAL = 0.5

app = Flask(__name__)
sock = Sock(app)

#: Who looks, and what was measured while somebody did. Both are this process's own.
viewers: set[WebSocket] = set()
history: deque[dict[str, float]] = deque(maxlen=120)
lock = threading.Lock()
# Of the time since the last call: so there is one before the first sample.
psutil.cpu_percent()


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("dashboard.html")


@sock.route("/live")
class Live(WebSocketView):
    """A viewer: gets what was measured before, then each sample."""

    def on_open(self, ws: WebSocket) -> None:
        """Begin with what there is."""
        begin(ws)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        """Pause and resume, as the page's button says."""
        if message == "pause":
            viewers.discard(ws)
        elif message == "resume":
            begin(ws)
        else:
            ws.close(1008, 'Say "pause" or "resume".')

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        """Forget the viewer."""
        viewers.discard(ws)


def begin(ws: WebSocket) -> None:
    """Let a viewer look, the first of whom starts the thread that measures."""
    with lock:
        if not history:
            history.append(measure())
            threading.Thread(target=push, name="dashboard", daemon=True).start()
        ws.send_json({"interval": INTERVAL, "samples": list(history)})
        viewers.add(ws)


def push() -> None:
    """Measure, and tell everyone, for as long as somebody looks."""
    while True:
        time.sleep(INTERVAL)
        with lock:
            if not viewers:
                history.clear()
                return
            sample = measure()
            history.append(sample)
            looking = list(viewers)
        text = json.dumps({"samples": [sample]})
        for ws in looking:
            try:
                ws.send(text)
            except ConnectionClosed:
                viewers.discard(ws)


def measure() -> dict[str, float]:
    """Measure: put your own figures here."""
    return {
        "time": time.time(),
        "cpu": psutil.cpu_percent(),
        "memory": psutil.virtual_memory().percent,
        "viewers": len(viewers),
    }
