"""python -m benchmarks.apps.socketio_app PORT"""

from __future__ import annotations

import sys

from flask import Flask
from flask_socketio import SocketIO, emit

app = Flask(__name__)
# Events in the order they came, as with the others: by default each gets a thread of its own.
# No pings either, as every byte is compared; the others ping less often than the load lasts.
socketio = SocketIO(app, async_mode="threading", async_handlers=False, ping_interval=3600)


@socketio.on("connect")
def connect() -> None:
    emit("ready")


@socketio.on("publish")
def publish(message: str) -> None:
    socketio.emit("news", message)


if __name__ == "__main__":
    socketio.run(app, "127.0.0.1", int(sys.argv[1]), allow_unsafe_werkzeug=True)
