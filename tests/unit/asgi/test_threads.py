"""The threads of HTTP requests and of handshakes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NoReturn

import flask
import pytest
from tests.support.asgi import Driver, make_scope
from tests.support.waiting import PATIENCE

from flask_ws import AsyncWebSocket, Sock
from flask_ws_asgi import ASGI


async def get(asgi: ASGI, path: str) -> int:
    """The status of a GET."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await asgi(make_scope(path, type="http", method="GET", scheme="http"), receive, send)
    status: int = sent[0]["status"]
    return status


def test_they_are_there_before_the_system_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    app = flask.Flask(__name__)
    reached, free = threading.Event(), threading.Event()

    @app.get("/slow")
    def slow() -> str:
        reached.set()
        free.wait(PATIENCE)
        return "slow"

    @app.get("/quick")
    def quick() -> str:
        return "quick"

    @Sock(app).route("/ws")
    async def handler(ws: AsyncWebSocket) -> None:
        await ws.send("hello")

    def start(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        asgi = ASGI(app, threads=2)
        driver = Driver(asgi, make_scope("/ws"))
        await driver.accepted()
        assert await driver.message() == "hello"
        await driver.closed()
        await driver.ended()
        # What this test waits with.
        await asyncio.to_thread(int)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            slowly = asyncio.create_task(get(asgi, "/slow"))
            try:
                await asyncio.to_thread(reached.wait, PATIENCE)
                assert await asyncio.wait_for(get(asgi, "/quick"), PATIENCE) == 200
            finally:
                free.set()
        assert await slowly == 200

    asyncio.run(run())
