"""A live dashboard: the server measures, and publishes to everyone who looks.

Nobody's thread waits for a viewer: an idle connection of an event view costs next to nothing,
and publishing does not wait for a slow reader.
"""

from __future__ import annotations

import threading
import time
from collections import deque

import psutil
from flask import Flask, render_template
from flask_ws import Sock, WebSocket, WebSocketView

#: Seconds from one sample to the next.
INTERVAL = 0.5
CHANNEL = "samples"

app = Flask(__name__)
sock = Sock(app)

#: What was measured while somebody looked.
history: deque[dict[str, float]] = deque(maxlen=120)
#: Is there a thread that measures?
measuring = threading.Event()
# A viewer begins between two samples: none is missing, and none comes twice.
lock = threading.Lock()


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
            ws.unsubscribe(CHANNEL)
        elif message == "resume":
            begin(ws)
        else:
            ws.close(1008, 'Say "pause" or "resume".')


def begin(ws: WebSocket) -> None:
    """Let a viewer look, the first of whom starts the thread that measures."""
    with lock:
        ws.send_json({"interval": INTERVAL, "samples": list(history)})
        ws.subscribe(CHANNEL)
        if not measuring.is_set():
            measuring.set()
            threading.Thread(target=push, name="dashboard", daemon=True).start()


def push() -> None:
    """Measure, and tell everyone, for as long as somebody looks."""
    # Of the time since the last call, of this thread: so there is one before the first sample.
    psutil.cpu_percent()
    with app.app_context():
        while True:
            time.sleep(INTERVAL)
            with lock:
                if not sock.subscribers(CHANNEL):
                    history.clear()
                    measuring.clear()
                    return
                history.append(measure())
                sock.publish_json(CHANNEL, {"samples": [history[-1]]})


def measure() -> dict[str, float]:
    """Measure: put your own figures here."""
    return {
        "time": time.time(),
        "cpu": psutil.cpu_percent(),
        "memory": psutil.virtual_memory().percent,
        "viewers": sock.subscribers(CHANNEL),
    }
