"""A client under ASGI whose messages wait for a busy handler."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import flask
import pytest
from tests.support.asgi import Driver, make_scope
from tests.support.waiting import PATIENCE, until

from flask_ws import AsyncWebSocket, AsyncWebSocketView, Sock, WebSocket, WebSocketView
from flask_ws_asgi import ASGI

LOOK = 0.01


class Busy:
    """An app with handlers of each kind that only look whether the client is still there."""

    def __init__(self) -> None:
        self.app = flask.Flask(__name__)
        sock = Sock(self.app)
        #: What they have seen of the end.
        self.codes: list[int | None] = []
        self.free = threading.Event()

        def work(ws: WebSocket) -> None:
            while ws.connected and not self.free.wait(LOOK):
                pass
            self.codes.append(ws.close_code)

        async def work_async(ws: AsyncWebSocket) -> None:
            while ws.connected and not self.free.is_set():
                await asyncio.sleep(LOOK)
            self.codes.append(ws.close_code)

        class View(WebSocketView):
            def on_message(self, ws: WebSocket, message: str | bytes) -> None:
                work(ws)

        class AsyncView(AsyncWebSocketView):
            async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
                await work_async(ws)

        sock.route("/blocking")(work)
        sock.route("/async")(work_async)
        sock.route("/view")(View)
        sock.route("/async-view")(AsyncView)

    async def connect(self, kind: str) -> Driver:
        driver = Driver(ASGI(self.app), make_scope(f"/{kind}"))
        await driver.accepted()
        return driver


@pytest.mark.parametrize("kind", ["blocking", "view", "async", "async-view"])
def test_one_who_leaves_is_lost_however_many_messages_wait(kind: str) -> None:
    busy = Busy()

    async def leave() -> None:
        driver = await busy.connect(kind)
        for number in range(500):
            driver.say(str(number))
        driver.leave(1006)
        try:
            await asyncio.to_thread(until, lambda: busy.codes)
            assert busy.codes[0] == 1006
        finally:
            busy.free.set()
        await driver.ended()

    asyncio.run(leave())


def test_one_who_sends_much_at_once_leaves_others_their_turn() -> None:
    busy = Busy()

    async def send() -> None:
        driver = await busy.connect("blocking")
        for number in range(2000):
            driver.say(str(number))
        asked: list[int] = []
        end = time.monotonic() + PATIENCE
        while driver.asked < 2000 and time.monotonic() < end:
            asked.append(driver.asked)
            await asyncio.sleep(0)
        assert max(b - a for a, b in itertools.pairwise(asked)) < 200
        busy.free.set()
        driver.leave(1000)
        await driver.ended()

    asyncio.run(send())
