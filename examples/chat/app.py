"""A chat: everyone in a room sees what everyone there says, and misses nothing while away.

It runs in one process as it is. For several, or several machines, they share a Redis, and what was
said survives a restart:

    SOCK_BROKER_URL=redis://localhost gunicorn --workers 4 --threads 4 app:app
"""

from __future__ import annotations

import importlib
import os
import time
import uuid
from collections import defaultdict
from typing import Any

from flask import Flask, abort, redirect, render_template, url_for
from flask_ws import ChannelView, Sock, WebSocket
from werkzeug.wrappers import Response

BROKER = os.environ.get("SOCK_BROKER_URL", "memory://")
#: The rooms; the first is the one to begin in. Anybody could fill the memory with rooms of theirs.
ROOMS = ("lobby", "python", "tea")
#: A part of a URL that is a room, as Werkzeug's rules have it.
ROOM = f"<any({', '.join(ROOMS)}):room>"
DAY = 86400

app = Flask(__name__)
app.config["SOCK_MAX_MESSAGE_SIZE"] = 8192
app.config["SOCK_BROKER_URL"] = BROKER
# What a newcomer sees: what was said last, and how many are here.
app.config["SOCK_HISTORY"] = {"chat:*": (50, DAY), "people:*": (1, DAY)}
sock = Sock(app)


class People:
    """Who is here. In this process."""

    def __init__(self) -> None:
        self.people: defaultdict[str, set[str]] = defaultdict(set)

    def enter(self, room: str, person: str) -> None:
        self.people[room].add(person)

    def leave(self, room: str, person: str) -> None:
        self.people[room].discard(person)

    def count(self, room: str) -> int:
        return len(self.people[room])


class SharedPeople(People):
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


people = People() if BROKER.startswith("memory:") else SharedPeople(BROKER)


@app.get("/")
def index() -> Response:
    """Show the first room."""
    return redirect(url_for("page", room=ROOMS[0]))


@app.get(f"/{ROOM}")
def page(room: str) -> str:
    """Show a room."""
    return render_template("chat.html", room=room, rooms=ROOMS)


@sock.route(f"/chat/{ROOM}")
class Chat(ChannelView):
    """One person in a room. Other rooms' URLs get 404."""

    def on_open(self, ws: WebSocket, room: str) -> None:
        self.id = uuid.uuid4().hex
        self.room = room
        people.enter(room, self.id)
        self.tell_how_many()

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        people.leave(self.room, self.id)
        self.tell_how_many()

    def tell_how_many(self) -> None:
        sock.publish_json(f"people:{self.room}", people.count(self.room))

    def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
        return channel in (f"chat:{self.room}", f"people:{self.room}")

    def may_publish(self, ws: WebSocket, channel: str, data: Any) -> Any:
        if channel != f"chat:{self.room}":
            return False
        return read(data) or abort(400, "A message has an id, a name and a text.")


def read(data: Any) -> dict[str, Any] | None:
    """Read a message of the page's; it is None if it is something else."""
    try:
        # The id is the page's: a message that is sent again has the same.
        id_, name, text = data["id"].strip(), data["name"].strip(), data["text"].strip()
    except (TypeError, KeyError, AttributeError):
        return None
    if not id_ or not name or not text:
        return None
    now = int(time.time() * 1000)
    return {"id": id_[:40], "name": name[:40], "text": text[:1000], "time": now}
