"""Two apps, one Sock: routes declared before and after they are initialised."""

from __future__ import annotations

from flask import Flask, current_app
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_ws import Sock, WebSocket

sock = Sock()
first, second = Flask("first"), Flask("second")


@sock.route("/before")
def before(ws: WebSocket) -> None:
    ws.send_json([current_app.name, "before"])


sock.init_app(first)
sock.init_app(second)


@sock.route("/after")
def after(ws: WebSocket) -> None:
    ws.send_json([current_app.name, "after"])


@first.get("/http")
def http() -> str:
    return "http"


application = DispatcherMiddleware(Flask("root"), {"/first": first, "/second": second})
