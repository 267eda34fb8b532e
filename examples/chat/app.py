"""A chat: everyone with the page open sees what everyone says."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from flask import Flask, json, render_template
from flask_ws import ConnectionClosed, Sock, WebSocket

app = Flask(__name__)
app.config["SOCK_MAX_MESSAGE_SIZE"] = 4096
sock = Sock(app)

#: Who is here, and what was said last. Both are this process's own: run the chat in one.
people: set[WebSocket] = set()
history: deque[dict[str, Any]] = deque(maxlen=50)


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("chat.html")


@sock.route("/chat")
def chat(ws: WebSocket) -> None:
    """Pass on what this person says, until they leave."""
    earlier = list(history)
    people.add(ws)
    try:
        ws.send_json({"history": earlier})
        tell_all({"people": len(people)})
        for message in ws:
            said = read(message)
            if said is None:
                ws.close(1008, "A message has a name and a text.")
                break
            history.append(said)
            tell_all(said)
    finally:
        people.discard(ws)
        tell_all({"people": len(people)})


def read(message: str | bytes) -> dict[str, Any] | None:
    """Read a message of the page's; it is None if it is something else."""
    try:
        data = json.loads(message)
        name, text = data["name"].strip()[:40], data["text"].strip()[:1000]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not name or not text:
        return None
    return {"name": name, "text": text, "time": int(time.time() * 1000)}


def tell_all(message: dict[str, Any]) -> None:
    """Send a message to everyone who is here."""
    for ws in list(people):
        try:
            ws.send_json(message)
        except ConnectionClosed:
            # Their own handler is about to notice, too.
            people.discard(ws)
