"""A long answer, word by word. Reload the page in the middle: it is whole, and goes on.

The answer is not written for a connection, but published on a channel with history. So it goes on
when nobody looks, and whoever opens its page sees all of it.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator

from flask import Flask, redirect, render_template, request, url_for
from flask_ws import ChannelView, Sock, WebSocket
from werkzeug.wrappers import Response

#: Seconds between two words.
PAUSE = float(os.environ.get("STREAM_PAUSE", "0.08"))
#: Answers that may be written at a time: each is a thread here, and money where a model writes it.
MOST = 20

app = Flask(__name__)
app.config["SOCK_BROKER_URL"] = os.environ.get("SOCK_BROKER_URL", "memory://")
# A page that is opened within an hour still shows its answer.
app.config["SOCK_HISTORY"] = {"answer:*": (5000, 3600)}
# All of an answer may be sent at once.
app.config["SOCK_MAX_OUTBOX"] = 2**22
sock = Sock(app)
places = threading.BoundedSemaphore(MOST)

TEXT = """
A WebSocket is one connection between a browser and a server on which both may speak at any time.
It begins as an ordinary request over HTTP: the browser asks to change the protocol, the server
agrees with the status 101, and from then on the two exchange messages, in both directions, until
one of them says goodbye.
|
That it stays open is its strength and its weakness. Nothing has to be asked again and again, and
what is new arrives within milliseconds. But a connection is a fragile thing: it ends with a tunnel,
a closed lid, another network, a new version of the server. Whatever was sent in that moment is
gone, unless somebody has kept it.
|
So what you are reading was not sent to this page. It was published on a channel that remembers its
messages, and each of them has a position. A page that was away says up to where it has read, and
gets the rest. A page that is new gets everything. Reload this one, close it and come back, or stop
its network for a while: no word is missing, and none is here twice.
"""


def generate(question: str) -> Iterator[str]:
    """Yield the pieces of an answer: call your model here, with its option for streaming."""
    for word in f"You asked: \u201c{question}\u201d | {TEXT}".split():
        time.sleep(PAUSE)
        yield "\n\n" if word == "|" else f"{word} "


def write(channel: str, question: str) -> None:
    """Write an answer, in a thread; a job's queue would do it in another process."""
    try:
        with app.app_context():
            for text in generate(question):
                sock.publish_json(channel, {"text": text})
            sock.publish_json(channel, {"done": True})
    finally:
        places.release()


@app.get("/")
def index() -> str:
    return render_template("stream.html", answer=None)


@app.post("/")
def ask() -> tuple[str, int] | Response:
    question = request.form.get("question", "").strip()[:200]
    if not question:
        return redirect(url_for("index"))
    if not places.acquire(blocking=False):
        return "Too many answers are being written. Try again later.", 503
    # Who knows it may read the answer; nobody can guess it.
    name = uuid.uuid4().hex
    threading.Thread(target=write, args=(f"answer:{name}", question), daemon=True).start()
    return redirect(url_for("answer", name=name))


@app.get("/answer/<name>")
def answer(name: str) -> str:
    return render_template("stream.html", answer=name)


@sock.route("/live")
class Live(ChannelView):
    """What pages may read: answers. They publish nothing."""

    def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
        return channel.startswith("answer:")
