"""The app under test, and a handler whose request tells of its end."""

from __future__ import annotations

import threading

from flask import g, request

from flask_ws import WebSocket
from flask_ws.testing.suite.live import app, record, route


@app.teardown_request
def tell(error: BaseException | None) -> None:
    if request.path == "/teardown":
        record("torn down", done=g.get("done", False), thread=threading.current_thread().name)


@route("/teardown")
def teardown(ws: WebSocket) -> None:
    ws.send(threading.current_thread().name)
    for message in ws:
        ws.send(message)
    g.done = True
