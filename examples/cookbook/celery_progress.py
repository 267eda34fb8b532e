"""Progress with Celery: the task runs in a worker, and publishes from there how far it is.

With Redis running, start both: ``flask --app celery_progress run`` and
``celery -A celery_progress:celery worker``.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery, Task
from flask import Flask, url_for
from flask_ws import Sock, WebSocket, WebSocketView

REDIS = "redis://localhost:6379"
STEPS = 20

app = Flask(__name__)
# The worker is another process: what it publishes comes here by way of Redis.
app.config["SOCK_BROKER_URL"] = REDIS
sock = Sock(app)
celery = Celery(__name__, broker=REDIS, backend=REDIS)

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Progress with Celery</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<button>Start</button> <progress max="100" value="0"></progress>
<script>
  const progress = document.querySelector("progress");
  document.querySelector("button").onclick = async () => {
    const { url } = await (await fetch("/tasks", { method: "POST" })).json();
    const ws = new WebSocket(url);
    progress.value = 0;
    // What is published while the first answer is on its way may overtake it.
    ws.onmessage = (event) => {
      progress.value = Math.max(progress.value, JSON.parse(event.data).percent);
    };
  };
</script>
"""


@app.get("/")
def index() -> str:
    return PAGE


@app.post("/tasks")
def start() -> dict[str, str]:
    return {"url": url_for("Progress", task=work.delay().id)}


@celery.task(bind=True)
def work(self: Task) -> dict[str, int]:
    """Do the job, step by step."""
    state = {"percent": 0}
    # A worker has no app context: publish() wants one.
    with app.app_context():
        for step in range(STEPS):
            time.sleep(0.1)
            state = {"percent": 100 * (step + 1) // STEPS}
            # For a page that is opened later, and for those that are open.
            self.update_state(state="PROGRESS", meta=state)
            sock.publish_json(f"task:{self.request.id}", state)
    return state


@sock.route("/tasks/<task>")
class Progress(WebSocketView):
    def on_open(self, ws: WebSocket, task: str) -> None:
        # First of all: what happens from now on comes by itself.
        ws.subscribe(f"task:{task}")
        state: Any = work.AsyncResult(task).info
        # Celery knows nothing of a task that has not begun, and keeps the error of one that failed.
        ws.send_json(state if isinstance(state, dict) else {"percent": 0})
