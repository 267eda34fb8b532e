"""What type checkers object to. Checked, not run: an objection that is missing is an error."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from flask import Flask

from flask_ws import AsyncWebSocket, Sock, WebSocket, WebSocketView
from flask_ws.testing import connect

app = Flask(__name__)
sock = Sock(app)


@sock.route("/wrong")  # type: ignore[type-var]
def wrong_parameter(ws: int) -> None:
    pass


@sock.route("/none")  # type: ignore[type-var]
def no_parameter() -> None:
    pass


@sock.route  # type: ignore[arg-type]
def no_rule(ws: WebSocket) -> None:
    pass


sock.route("/blueprint", "chat")  # type: ignore[arg-type]
Sock("app")  # type: ignore[arg-type]


class NoView:
    pass


sock.route("/class")(NoView)  # type: ignore[type-var]


@sock.view  # type: ignore[arg-type]
def wrong_view(ws: str) -> None:
    pass


class WrongView(WebSocketView):
    def on_message(self, ws: WebSocket, message: str) -> None:  # type: ignore[override]
        pass


class WrongEnd(WebSocketView):
    def on_close(self, ws: WebSocket) -> None:  # type: ignore[override]
        pass


sock.route("/instance")(WrongEnd())  # type: ignore[type-var]


def receive(ws: WebSocket) -> None:
    text: str = ws.receive()  # type: ignore[assignment]
    message: str | bytes = ws.receive(timeout=1)  # type: ignore[assignment]
    ws.send(text or message)
    ws.receive(timeout="1")  # type: ignore[call-overload]
    ws.receive().encode()  # type: ignore[union-attr]


def send(ws: WebSocket) -> None:
    ws.send({"json": 1})  # type: ignore[arg-type]
    ws.send(None)  # type: ignore[arg-type]
    ws.close("4000")  # type: ignore[arg-type]
    ws.close(reason=4000)  # type: ignore[arg-type]
    ws.connected = False  # type: ignore[misc]
    print(ws.subscribers)  # type: ignore[attr-defined]


def publish(ws: WebSocket) -> None:
    ws.subscribe(b"news")  # type: ignore[arg-type]
    sock.publish("news", {"json": 1})  # type: ignore[arg-type]
    sock.publish("news", "text", ws)  # type: ignore[call-arg]
    sock.publish("news", "text", exclude="ws")  # type: ignore[arg-type]


def in_tests() -> None:
    with connect("/echo", app) as ws:  # type: ignore[arg-type]
        ws.send(1)  # type: ignore[arg-type]
        print(ws.response.status_kode)  # type: ignore[attr-defined]
    connect(app, "/echo", compression="yes")  # type: ignore[arg-type]
    connect(app)  # type: ignore[call-arg]


async def take_the_wrong_one(ws: WebSocket) -> None:
    await ws.send("hello")  # type: ignore[func-returns-value, misc]


async def forget_async(ws: AsyncWebSocket) -> None:
    for _ in ws:  # type: ignore[attr-defined]
        pass


async def wrong_message(ws: AsyncWebSocket) -> None:
    await ws.send(1)  # type: ignore[arg-type]


@sock.route("/wrong/async")  # type: ignore[type-var]
async def wrong_async(ws: int) -> None:
    pass
