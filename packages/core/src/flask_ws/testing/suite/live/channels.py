"""Channels: a handler, an event view and HTTP views on them."""

from __future__ import annotations

import json
import threading
from typing import Any

from flask import current_app

from flask_ws import WebSocket, WebSocketView

# What may stand in for these.
from . import coroutines  # noqa: F401
from .base import app, sock, watched

OPTIONS: dict[str, Any] = {"max_outbox": 300_000, "close_timeout": 2}


@sock.route("/channels/handler/<channel>", **OPTIONS)
@watched
def handler(ws: WebSocket, channel: str) -> None:
    """Publish what the client sends to the others on the channel."""
    ws.subscribe(channel)
    ws.send("ready")
    for message in ws:
        sock.publish(channel, message, exclude=ws)


@sock.route("/channels/view/<channel>", **OPTIONS)
class View(WebSocketView):
    def on_open(self, ws: WebSocket, channel: str) -> None:
        self.channel = channel
        ws.subscribe(channel)
        ws.send("ready")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        sock.publish(self.channel, message, exclude=ws)


@sock.route("/channels/chosen", **OPTIONS)
class Chosen(WebSocketView):
    """Subscribes to what the client names, in JSON, and publishes the name there."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        channel = json.loads(message)
        try:
            ws.subscribe(channel)
            sock.publish(channel, "joined")
        except ValueError:
            ws.send("refused")


@app.get("/channels/publish/<channel>/<int:count>/<int:size>")
def publish(channel: str, count: int, size: int) -> dict[str, int]:
    """Publish numbered messages."""
    for number in range(count):
        sock.publish(channel, f"{number} ".ljust(size, "x"))
    return {"subscribers": sock.subscribers(channel)}


@app.get("/channels/publish-in-thread/<channel>/<int:count>/<int:size>")
def publish_in_thread(channel: str, count: int, size: int) -> dict[str, int]:
    """The same from a thread that serves no request; native if threads are."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]

    def run() -> None:
        with app.app_context():
            publish(channel, count, size)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return {}
