"""Progress: a job tells how far it is, to every page that shows it."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, abort, request, url_for
from flask_ws import Sock, WebSocket, WebSocketView

STEPS = 20

app = Flask(__name__)
sock = Sock(app)
pool = ThreadPoolExecutor(4)
states: dict[str, dict[str, Any]] = {}

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Progress</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<button>Start</button> <progress max="100" value="0"></progress>
<script>
  const progress = document.querySelector("progress");
  document.querySelector("button").onclick = async () => {
    const { url } = await (await fetch("/jobs", { method: "POST" })).json();
    const ws = new WebSocket(url);
    // What is published while the first answer is on its way may overtake it.
    progress.value = 0;
    ws.onmessage = (event) => {
      progress.value = Math.max(progress.value, JSON.parse(event.data).percent);
    };
  };
</script>
"""


@app.get("/")
def index() -> str:
    return PAGE


@app.post("/jobs")
def start() -> dict[str, str]:
    job = uuid.uuid4().hex
    states[job] = {"percent": 0}
    pool.submit(work, job)
    return {"url": url_for("Progress", job=job)}


def work(job: str) -> None:
    """Do the job, step by step."""
    # A thread or a task has no app context: publish() wants one.
    with app.app_context():
        for step in range(STEPS):
            time.sleep(0.1)
            states[job] = {"percent": 100 * (step + 1) // STEPS}
            sock.publish_json(f"job:{job}", states[job])


@app.before_request
def know_job() -> None:
    """Answer 404 for a job that does not exist, before there is a connection."""
    if request.endpoint == "Progress" and (request.view_args or {}).get("job") not in states:
        abort(404)


@sock.route("/jobs/<job>")
class Progress(WebSocketView):
    def on_open(self, ws: WebSocket, job: str) -> None:
        # First of all: what happens from now on comes by itself.
        ws.subscribe(f"job:{job}")
        ws.send_json(states[job])
