"""A drawing board: everybody sees everybody's pen, and what was drawn before they came.

No thread waits for anyone, and nothing is kept but the channel's own history: a hundred people
draw together on four threads.
"""

from __future__ import annotations

import secrets
from typing import Any

from flask import Flask, json, render_template
from flask_ws import Sock, WebSocket, WebSocketView

#: The board's width and height, in its own units; each page scales it to its window.
SIZE = 1000
#: Points of a line in a message: a pen that moves sends several messages a second.
POINTS = 50

app = Flask(__name__)
app.config.from_mapping(
    # What newcomers are sent: the last lines of an hour. All of them have to fit into an outbox.
    SOCK_HISTORY={"lines": (4000, 3600)},
    SOCK_MAX_OUTBOX=4 * 1024 * 1024,
    # Whoever comes back is somebody else.
    SOCK_PRESENCE_GRACE=0,
)
sock = Sock(app)


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("board.html", size=SIZE, points=POINTS)


@sock.route("/board", max_message_size=900)
class Board(WebSocketView):
    """Somebody with a pen."""

    def on_open(self, ws: WebSocket) -> None:
        """Send what was drawn, then whatever happens."""
        self.id = secrets.token_hex(4)
        ws.send_json({"you": self.id})
        ws.join("people", key=self.id)
        ws.subscribe("lines", since="all")
        # A place that a slow client is not sent is followed by another.
        ws.subscribe("pens", overflow="drop")
        # And of who is there; a pen leaves with its owner.
        ws.subscribe_presence("people")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        """Pass on a piece of a line, or where the pen is."""
        points = read(message)
        if points is None:
            ws.close(1008, "A message has a line, or the place of a pen.")
        elif len(points) == 1:
            # Of pens only the last place counts: their channel has no history.
            sock.publish_json("pens", {"by": self.id, "pen": points[0]}, exclude=ws)
        else:
            sock.publish_json("lines", {"by": self.id, "line": points}, exclude=ws)


def read(message: str | bytes) -> list[list[int]] | None:
    """Read the points of a message; None if it is something else."""
    try:
        points: Any = json.loads(message)
        read = [[int(x), int(y)] for x, y in points]
    except (ValueError, TypeError):
        return None
    inside = all(0 <= n <= SIZE for point in read for n in point)
    return read if inside and 1 <= len(read) <= POINTS else None
