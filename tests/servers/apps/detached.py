"""The app under test, and handlers that others of it have no use for."""

from __future__ import annotations

import threading
import time

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


@route("/finish")
def finish(ws: WebSocket) -> None:
    """Have some more to do when the server stops: more than a server of its own would allow."""
    while ws.connected:
        time.sleep(0.02)
    time.sleep(3)
    record("finished")
