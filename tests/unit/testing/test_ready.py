"""When connect() lets a test begin: what the handler does first has been done by then."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from flask import Flask

from flask_ws import AsyncWebSocket, AsyncWebSocketView, Sock, WebSocket, WebSocketView
from flask_ws.testing import connect, memory

#: Seconds for what must come to pass.
PATIENCE = 10.0
#: Seconds that a handler takes for its first step: without waiting for it, each test here fails.
STEP = 0.05
#: How often a race is given the chance to be lost.
TIMES = 200


def test_what_is_published_at_once_arrives(app: Flask, sock: Sock) -> None:
    """The example of the page on channels."""

    @sock.route("/news")
    def news(ws: WebSocket) -> None:
        ws.subscribe("news")
        for topic in ws:
            ws.subscribe(f"news:{topic!r}")

    for number in range(TIMES):
        with connect(app, "/news") as ws:
            with app.app_context():
                sock.publish("news", str(number))
            assert ws.receive() == str(number)


def test_on_open_has_returned(app: Flask, sock: Sock) -> None:
    @sock.route("/news")
    class News(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            ws.send("not enough")
            time.sleep(STEP)
            ws.subscribe("news")

    with connect(app, "/news") as ws:
        with app.app_context():
            sock.publish("news", "hello")
        assert (ws.receive(), ws.receive()) == ("not enough", "hello")


@pytest.mark.parametrize("kind", ["handler", "view"])
def test_connect_waits_for_async_ones_too(app: Flask, sock: Sock, kind: str) -> None:
    class View(AsyncWebSocketView):
        async def on_open(self, ws: AsyncWebSocket) -> None:
            await asyncio.sleep(STEP)
            await ws.subscribe("news")

    async def handler(ws: AsyncWebSocket) -> None:
        await asyncio.sleep(STEP)
        await ws.subscribe("news")
        await ws.receive()

    target: Any = View if kind == "view" else handler
    sock.route("/news")(target)
    with connect(app, "/news") as ws:
        # It is told, and has not been waited for as long as it may be.
        assert ws._call._ready.is_set()
        with app.app_context():
            sock.publish("news", "hello")
        assert ws.receive() == "hello"


FIRST_USES: dict[str, Any] = {
    "receive": lambda ws: ws.receive(),
    "receive_json": lambda ws: ws.receive_json(timeout=PATIENCE),
    "receive with a timeout": lambda ws: ws.receive(timeout=PATIENCE),
    "look for a message": lambda ws: ws.receive(timeout=0),
    "iterate": list,
    "send": lambda ws: ws.send("hello"),
    "send_json": lambda ws: ws.send_json({}),
    "ping": lambda ws: ws.ping(),
    "close": lambda ws: ws.close(),
    "return": lambda ws: None,
}


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES)
def test_what_comes_before_the_first_use_is_done(app: Flask, sock: Sock, use: Any) -> None:
    done = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        time.sleep(STEP)
        done.append(True)
        use(ws)

    with connect(app, "/") as ws:
        assert done
        if ws.connected:
            ws.send("{}")


def test_no_handler_is_waited_for_longer(app: Flask, sock: Sock) -> None:
    """Of either kind: it is not the time limit that ends the wait."""

    @sock.route("/blocking")
    def blocking(ws: WebSocket) -> None:
        assert list(ws) == []

    @sock.route("/async")
    async def coroutine(ws: AsyncWebSocket) -> None:
        async for _ in ws:
            pass

    @sock.route("/view")
    class View(WebSocketView):
        pass

    @sock.route("/async-view")
    class AsyncView(AsyncWebSocketView):
        async def on_open(self, ws: AsyncWebSocket) -> None:
            pass

    began = time.monotonic()
    for path in ("/blocking", "/async", "/view", "/async-view"):
        for _ in range(20):
            with connect(app, path):
                pass
    assert time.monotonic() - began < 4 * 20 * memory.PATIENCE / 2


def test_a_handler_that_raises_has_done_so(app: Flask, sock: Sock) -> None:
    done = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        time.sleep(STEP)
        done.append(True)
        raise LookupError

    with pytest.raises(LookupError), connect(app, "/"):
        assert done


def test_a_thread_of_the_handlers_may_be_the_first_to_send(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        thread = threading.Thread(target=ws.send, args=["hello"])
        thread.start()
        thread.join(PATIENCE)

    with connect(app, "/") as ws:
        assert ws.receive() == "hello"


def test_a_handler_that_waits_for_the_test_is_not_waited_for(
    app: Flask, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_ws.testing.memory.PATIENCE", STEP)
    event = threading.Event()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert event.wait(PATIENCE)
        ws.send("set")

    with connect(app, "/") as ws:
        event.set()
        assert ws.receive() == "set"


def test_the_handlers_ws_is_a_websocket_like_any(app: Flask, sock: Sock) -> None:
    seen: list[Any] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.name = "ada"  # type: ignore[attr-defined]
        seen.extend([isinstance(ws, WebSocket), repr(ws), vars(ws)])

    with connect(app, "/"):
        pass
    assert seen == [True, "<WebSocket / open>", {"name": "ada"}]
