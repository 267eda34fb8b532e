"""A chat: everyone in a room sees what everyone there says.

It runs in one process as it is. For several, or several machines, they share a Redis:

    SOCK_BROKER_URL=redis://localhost gunicorn --workers 4 --threads 4 app:app
"""

from __future__ import annotations

import importlib
import os
import time
import uuid
from collections import defaultdict, deque
from typing import Any

from flask import Flask, json, redirect, render_template, url_for
from flask_ws import Sock, WebSocket, WebSocketView
from werkzeug.wrappers import Response

BROKER = os.environ.get("SOCK_BROKER_URL", "memory://")
#: The rooms; the first is the one to begin in. Anybody could fill the memory with rooms of theirs.
ROOMS = ("lobby", "python", "tea")
#: A part of a URL that is a room, as Werkzeug's rules have it.
ROOM = f"<any({', '.join(ROOMS)}):room>"
#: How much of what was said a newcomer sees.
LENGTH = 50

app = Flask(__name__)
app.config["SOCK_MAX_MESSAGE_SIZE"] = 4096
app.config["SOCK_BROKER_URL"] = BROKER
sock = Sock(app)


class MemoryStore:
    """What channels do not keep: who is here, and what was said last. In this process."""

    def __init__(self) -> None:
        self.people: defaultdict[str, set[str]] = defaultdict(set)
        self.history: dict[str, deque[dict[str, Any]]] = {
            room: deque(maxlen=LENGTH) for room in ROOMS
        }

    def enter(self, room: str, person: str) -> None:
        self.people[room].add(person)

    def leave(self, room: str, person: str) -> None:
        self.people[room].discard(person)

    def count(self, room: str) -> int:
        return len(self.people[room])

    def add(self, room: str, said: dict[str, Any]) -> None:
        self.history[room].append(said)

    def read(self, room: str) -> list[dict[str, Any]]:
        return list(self.history[room])


class RedisStore(MemoryStore):
    """The same in the Redis that all processes share."""

    def __init__(self, url: str) -> None:
        # Installed along with flask-ws[redis].
        self.redis: Any = importlib.import_module("redis").Redis.from_url(url)

    def enter(self, room: str, person: str) -> None:
        self.redis.sadd(f"chat:{room}:people", person)
        # A process that is killed leaves its people behind: not for ever.
        self.redis.expire(f"chat:{room}:people", 3600)

    def leave(self, room: str, person: str) -> None:
        self.redis.srem(f"chat:{room}:people", person)

    def count(self, room: str) -> int:
        return int(self.redis.scard(f"chat:{room}:people"))

    def add(self, room: str, said: dict[str, Any]) -> None:
        self.redis.rpush(f"chat:{room}:history", json.dumps(said))
        self.redis.ltrim(f"chat:{room}:history", -LENGTH, -1)

    def read(self, room: str) -> list[dict[str, Any]]:
        return [json.loads(said) for said in self.redis.lrange(f"chat:{room}:history", 0, -1)]


store = MemoryStore() if BROKER.startswith("memory:") else RedisStore(BROKER)


@app.get("/")
def index() -> Response:
    """Show the first room."""
    return redirect(url_for("page", room=ROOMS[0]))


@app.get(f"/{ROOM}")
def page(room: str) -> str:
    """Show a room."""
    return render_template("chat.html", room=room, rooms=ROOMS)


@sock.route(f"/chat/{ROOM}")
class Chat(WebSocketView):
    """One person in a room. Other rooms' URLs get 404."""

    def on_open(self, ws: WebSocket, room: str) -> None:
        self.id = uuid.uuid4().hex
        self.room = room
        # First of all: what is said from now on comes by itself. The page skips what it has.
        ws.subscribe(room)
        ws.send_json({"history": store.read(room)})
        store.enter(room, self.id)
        sock.publish_json(room, {"people": store.count(room)})

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        said = read(message)
        if said is None:
            ws.close(1008, "A message has a name and a text.")
            return
        store.add(self.room, said)
        sock.publish_json(self.room, said)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        store.leave(self.room, self.id)
        sock.publish_json(self.room, {"people": store.count(self.room)})


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
