"""A chat: everyone in a room sees who is there and what they say, and misses nothing while away.

It runs in one process as it is. For several, or several machines, they share a Redis, and what was
said survives a restart:

    SOCK_BROKER_URL=redis://localhost gunicorn --workers 4 --threads 4 app:app
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from flask import Flask, abort, redirect, render_template, request, url_for
from flask_ws import ChannelView, Sock, WebSocket
from werkzeug.wrappers import Response

#: The rooms; the first is the one to begin in. Anybody could fill the memory with rooms of theirs.
ROOMS = ("lobby", "python", "tea")
#: A part of a URL that is a room, as Werkzeug's rules have it.
ROOM = f"<any({', '.join(ROOMS)}):room>"
DAY = 86400
#: The characters that each part of a message may have.
LENGTHS = {"id": 40, "name": 40, "text": 1000}

app = Flask(__name__)
app.config["SOCK_MAX_MESSAGE_SIZE"] = 8192
app.config["SOCK_BROKER_URL"] = os.environ.get("SOCK_BROKER_URL", "memory://")
# A newcomer sees what was said last.
app.config["SOCK_HISTORY"] = {"chat:*": (50, DAY)}
sock = Sock(app)


@sock.identify
def who() -> str | None:
    """Tell people apart: a page has made up a secret, of which others see the digest only.

    An app with logins would return the user's id.
    """
    secret = request.args.get("secret")
    return hashlib.sha256(secret.encode()).hexdigest()[:16] if secret else None


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
        self.channel = f"chat:{room}"

    def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
        return channel == self.channel

    def may_join(self, ws: WebSocket, channel: str, info: Any) -> Any:
        if channel != self.channel:
            return False
        return read(info, "name") or abort(400, "Who is here has a name.")

    def may_publish(self, ws: WebSocket, channel: str, data: Any) -> Any:
        if channel != self.channel:
            return False
        # The id is the page's: a message that is sent again has the same.
        message = read(data, "id", "name", "text")
        if message is None:
            abort(400, "A message has an id, a name and a text.")
        return message | {"time": int(time.time() * 1000)}


def read(data: Any, *keys: str) -> dict[str, str] | None:
    """Read texts that a page has sent; they are None if they are something else."""
    try:
        texts = {key: data[key].strip()[: LENGTHS[key]] for key in keys}
    except (TypeError, KeyError, AttributeError):
        return None
    return texts if all(texts.values()) else None
