"""A chat: everyone with the page open sees what everyone says.

It runs in one process as it is. For several, or several machines, they share a Redis:

    SOCK_BROKER_URL=redis://localhost gunicorn --workers 4 --threads 4 app:app
"""

from __future__ import annotations

import importlib
import os
import time
import uuid
from collections import deque
from typing import Any

from flask import Flask, json, render_template
from flask_ws import Sock, WebSocket, WebSocketView

BROKER = os.environ.get("SOCK_BROKER_URL", "memory://")
#: How much of what was said a newcomer sees.
LENGTH = 50

app = Flask(__name__)
app.config["SOCK_MAX_MESSAGE_SIZE"] = 4096
app.config["SOCK_BROKER_URL"] = BROKER
sock = Sock(app)


class MemoryStore:
    """What channels do not keep: who is here, and what was said last. In this process."""

    def __init__(self) -> None:
        self.people: set[str] = set()
        self.history: deque[dict[str, Any]] = deque(maxlen=LENGTH)

    def enter(self, person: str) -> None:
        self.people.add(person)

    def leave(self, person: str) -> None:
        self.people.discard(person)

    def count(self) -> int:
        return len(self.people)

    def add(self, said: dict[str, Any]) -> None:
        self.history.append(said)

    def read(self) -> list[dict[str, Any]]:
        return list(self.history)


class RedisStore(MemoryStore):
    """The same in the Redis that all processes share."""

    def __init__(self, url: str) -> None:
        # Installed along with flask-ws[redis].
        self.redis: Any = importlib.import_module("redis").Redis.from_url(url)

    def enter(self, person: str) -> None:
        self.redis.sadd("chat:people", person)
        # A process that is killed leaves its people behind: not for ever.
        self.redis.expire("chat:people", 3600)

    def leave(self, person: str) -> None:
        self.redis.srem("chat:people", person)

    def count(self) -> int:
        return int(self.redis.scard("chat:people"))

    def add(self, said: dict[str, Any]) -> None:
        self.redis.rpush("chat:history", json.dumps(said))
        self.redis.ltrim("chat:history", -LENGTH, -1)

    def read(self) -> list[dict[str, Any]]:
        return [json.loads(said) for said in self.redis.lrange("chat:history", 0, -1)]


store = MemoryStore() if BROKER.startswith("memory:") else RedisStore(BROKER)


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("chat.html")


@sock.route("/chat")
class Chat(WebSocketView):
    """One person with the page open."""

    def on_open(self, ws: WebSocket) -> None:
        self.id = uuid.uuid4().hex
        # First of all: what is said from now on comes by itself. The page skips what it has.
        ws.subscribe("chat")
        ws.send_json({"history": store.read()})
        store.enter(self.id)
        sock.publish_json("chat", {"people": store.count()})

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        said = read(message)
        if said is None:
            ws.close(1008, "A message has a name and a text.")
            return
        store.add(said)
        sock.publish_json("chat", said)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        store.leave(self.id)
        sock.publish_json("chat", {"people": store.count()})


def read(message: str | bytes) -> dict[str, Any] | None:
    """Read a message of the page's; it is None if it is something else."""
    try:
        data = json.loads(message)
        name, text = data["name"].strip()[:40], data["text"].strip()[:1000]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not name or not text:
        return None
    now = int(time.time() * 1000)
    return {"id": uuid.uuid4().hex, "name": name, "text": text, "time": now}
