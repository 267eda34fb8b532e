"""What type checkers know of flask_ws. Checked, not run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime, timezone
from typing import Any

from flask import Blueprint, Flask, Response
from typing_extensions import assert_type
from werkzeug.test import TestResponse

from flask_ws import (
    AsyncChannelView,
    AsyncWebSocket,
    AsyncWebSocketView,
    Broker,
    BrokerError,
    ChannelView,
    ConnectionClosed,
    Identity,
    Message,
    Options,
    Published,
    ServerSocket,
    Sock,
    Subscription,
    WebSocket,
    WebSocketView,
    hookimpl,
)
from flask_ws.testing import ClientWebSocket, HandshakeRefused, connect

app = Flask(__name__)
sock = Sock(app)
later = Sock()
later.init_app(app)
blueprint = Blueprint("chat", __name__)

# Routes: what is decorated stays what it was


@sock.route("/echo")
def echo(ws: WebSocket) -> None:
    for message in ws:
        assert_type(message, str | bytes)
        ws.send(message)


@sock.route("/chat/<room>", bp=blueprint, max_message_size=4096, endpoint="chat")
def chat(ws: WebSocket, room: str, *, limit: int = 10) -> list[str]:
    return [room, str(limit)]


@sock.route("/feed")
class Feed(WebSocketView):
    room = ""

    def on_open(self, ws: WebSocket, room: str) -> None:
        self.room = room

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        assert_type(ws, WebSocket)
        ws.send(message)

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        pass


@sock.route("/async/<room>")
async def async_echo(ws: AsyncWebSocket, room: str) -> int:
    async for message in ws:
        assert_type(message, str | bytes)
        await ws.send(message)
    return len(room)


@sock.route("/async/feed")
class AsyncFeed(AsyncWebSocketView):
    async def on_open(self, ws: AsyncWebSocket, room: str) -> None:
        self.room = room

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        assert_type(ws, AsyncWebSocket)
        await ws.send(message)

    async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
        pass


@sock.route("/live")
class Live(ChannelView):
    def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
        return channel == "news"

    def may_publish(self, ws: WebSocket, channel: str, data: Any) -> dict[str, Any]:
        return {"text": data}


@sock.route("/async/live")
class AsyncLive(AsyncChannelView):
    async def may_subscribe(self, ws: AsyncWebSocket, channel: str) -> bool:
        assert_type(ws, AsyncWebSocket)
        return channel == "news"

    async def may_publish(self, ws: AsyncWebSocket, channel: str, data: Any) -> dict[str, Any]:
        return {"text": data}


@app.route("/decorated", websocket=True)
@sock.view
def decorated(ws: WebSocket) -> None:
    pass


class Callee:
    def __call__(self, ws: WebSocket, name: str) -> None:
        pass


def use_routes(ws: WebSocket) -> None:
    unchanged: Callable[[WebSocket], None] = echo
    unchanged(ws)
    assert_type(chat(ws, "lobby", limit=3), list[str])
    assert_type(Feed().room, str)
    assert_type(decorated, Callable[..., Response])
    assert_type(sock.view(async_echo), Callable[..., Response])
    assert_type(sock.route("/callee/<name>")(Callee()), Callee)


@sock.identify
def identify() -> Identity | None:
    return Identity("ada", expires_at=1.5)


@sock.recheck(seconds=5)
def may_stay(ws: WebSocket) -> bool:
    ws.expires_at = datetime.now(timezone.utc)
    assert_type(ws.expires_at, float | None)
    return ws.identity != "grace"


@sock.recheck
async def may_stay_too(ws: AsyncWebSocket) -> bool:
    assert_type(ws.identity, str | None)
    return True


def use_users(ws: WebSocket) -> None:
    assert_type(identify(), Identity | None)
    assert_type(may_stay(ws), bool)
    assert_type(sock.send_to("ada", b"text", exclude=[ws]), Published)
    assert_type(sock.send_json_to("ada", {"any": 1}, exclude=ws, indent=2), Published)
    assert_type(sock.disconnect("ada", 4001, "a reason"), bool)
    assert_type(sock.connections("ada"), int)
    assert_type(sock.ticket("ada", ttl=5), str)


async def use_async_routes(ws: AsyncWebSocket) -> None:
    unchanged: Callable[[AsyncWebSocket, str], Coroutine[Any, Any, int]] = async_echo
    assert_type(await unchanged(ws, "lobby"), int)
    assert_type(AsyncFeed().room, str)


# Connections


async def use_async(ws: AsyncWebSocket, seconds: float | None) -> None:
    assert_type(await ws.receive(), str | bytes)
    assert_type(await ws.receive(timeout=1), str | bytes | None)
    assert_type(await ws.receive(seconds), str | bytes | None)
    assert_type(await ws.receive_json(), Any)
    assert_type(await ws.send("text"), None)
    await ws.send(bytearray(3))
    await ws.send_json({"any": ["thing", 1, None]}, indent=2)
    await ws.ping(b"payload")
    await ws.subscribe("news")
    await ws.unsubscribe("news")
    await ws.close(4000, reason="enough")
    assert_type(sock.publish("news", "text", exclude=ws), Published)
    assert_type(await sock.apublish("news", b"binary", exclude=ws), Published)
    assert_type(await sock.apublish_json("news", {"any": 1}, indent=2), Published)
    assert_type(ws.connected, bool)
    assert_type(ws.close_code, int | None)
    assert_type(ws.subprotocol, str | None)


def receive(ws: WebSocket, seconds: float | None) -> None:
    assert_type(ws.receive(), str | bytes)
    assert_type(ws.receive(None), str | bytes)
    assert_type(ws.receive(timeout=1), str | bytes | None)
    assert_type(ws.receive(0.5), str | bytes | None)
    assert_type(ws.receive(seconds), str | bytes | None)
    assert_type(ws.receive_json(), Any)
    assert_type(iter(ws), Iterator[str | bytes])


def send(ws: WebSocket) -> None:
    ws.send("text")
    ws.send(b"binary")
    ws.send(bytearray(3))
    ws.send(memoryview(b"binary"))
    ws.send_json({"any": ["thing", 1, None]}, indent=2)
    ws.ping()
    ws.ping(b"payload")
    ws.close()
    ws.close(4000, reason="enough")


def use_channels(ws: WebSocket) -> None:
    assert_type(ws.subscribe("news"), Subscription)
    ws.subscribe("news", since="all", gap=b"reload")
    assert_type(sock.publish("news", "text").position, str | None)
    ws.unsubscribe("news")
    assert_type(sock.publish("news", "text"), Published)
    assert_type(sock.publish("news", b"binary", exclude=ws), Published)
    assert_type(sock.publish("news", memoryview(b"binary"), exclude=[ws, ws]), Published)
    assert_type(sock.publish_json("news", {"any": ["thing"]}, exclude={ws}, indent=2), Published)
    assert_type(sock.subscribers("news"), int)
    with sock.listen("news", since="all") as messages:
        for message in messages:
            assert_type(message.data, str | bytes)
            assert_type(message.position, str | None)
        assert_type(messages.receive(timeout=1), Message | None)


def look(ws: WebSocket) -> None:
    assert_type(ws.connected, bool)
    assert_type(ws.close_code, int | None)
    assert_type(ws.close_reason, str)
    assert_type(ws.subprotocol, str | None)
    assert_type(ws.environ, dict[str, Any])
    try:
        ws.receive()
    except ConnectionClosed as closed:
        assert_type(closed.code, int)
        assert_type(closed.reason, str)


def look_at_options(options: Options) -> None:
    assert_type(options.ping_interval, float | None)
    assert_type(options.subprotocols, tuple[str, ...])


# Plugins


@hookimpl
def flask_ws_get_socket(environ: dict[str, Any]) -> ServerSocket | None:
    found = environ.get("pigeon.socket")
    return None if found is None else ServerSocket(found, read_ahead=b"early", detach=True)


class PigeonPost(Broker):
    def start(self, deliver: Callable[[str, bytes], object]) -> None:
        self.deliver = deliver

    def publish(self, channel: str, payload: bytes) -> None:
        self.went_away("the pigeon is lost")
        raise BrokerError("no pigeon")

    def subscribe(self, channel: str) -> None:
        self.came_back()

    def unsubscribe(self, channel: str) -> None:
        assert_type(self.is_away, bool)

    def close(self) -> None:
        pass


@hookimpl
def flask_ws_open_broker(url: str) -> Broker | None:
    return PigeonPost() if url.startswith("pigeon:") else None


# Tests


def run_tests() -> None:
    with connect(app, "/echo") as ws:
        assert_type(ws, ClientWebSocket)
        assert_type(ws.receive(), str | bytes)
        assert_type(ws.receive(timeout=1), str | bytes | None)
        assert_type(ws.receive_json(), Any)
        assert_type(ws.response, TestResponse)
        assert_type(ws.subprotocol, str | None)
        assert_type(ws.close_code, int | None)
    with connect(
        app.test_client(),
        "/chat/lobby",
        headers={"Origin": "http://localhost"},
        subprotocols=["chat"],
        compression=False,
        query_string={"q": "1"},
    ) as ws:
        for message in ws:
            assert_type(message, str | bytes)


def run_refused() -> int:
    # Were the block thought to swallow exceptions, the end of the function would be reachable.
    try:
        with connect(app, "/echo"):
            return 101
    except HandshakeRefused as refused:
        assert_type(refused.response, TestResponse)
        return refused.response.status_code
