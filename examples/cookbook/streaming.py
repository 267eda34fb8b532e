"""Streaming: a model's answer appears word by word, and can be stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, render_template_string
from flask_ws import Sock, WebSocket

app = Flask(__name__)
sock = Sock(app)

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Streaming</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<form>
  <input autofocus aria-label="Question" value="What is a WebSocket?"> <button>Ask</button>
  <button type="button" id="stop">Stop</button>
</form>
<p></p>
<script>
  const find = (name) => document.querySelector(name);
  const ws = new WebSocket({{ url_for("ask")|tojson }});
  ws.onmessage = (event) => { find("p").append(JSON.parse(event.data).text ?? ""); };
  find("form").onsubmit = (event) => {
    event.preventDefault();
    find("p").textContent = "";
    ws.send(find("input").value);
  };
  find("#stop").onclick = () => ws.send("");
</script>
"""


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


def generate(question: str) -> Iterator[str]:
    """Yield the pieces of an answer: call your model here, with its option for streaming."""
    for word in f"You asked: {question} That is a good question, and this is the answer.".split():
        time.sleep(0.05)
        yield f"{word} "


@sock.route("/ask", max_message_size=8192)
def ask(ws: WebSocket) -> None:
    # A handler is the simplest here: it may wait for the model as long as it takes. If the client
    # leaves, send() raises ConnectionClosed, and the generator is closed.
    for question in ws:
        for text in generate(str(question)) if question else ():
            ws.send_json({"text": text})
            # Whatever the page sends meanwhile stops the answer.
            if ws.receive(timeout=0) is not None:
                break
        ws.send_json({"done": True})
