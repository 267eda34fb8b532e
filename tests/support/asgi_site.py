"""An app with handlers of all kinds, under ASGI, and how its tests run."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import flask
import pytest

from flask_ws import AsyncWebSocket, AsyncWebSocketView, ConnectionClosed, Sock, WebSocket
from flask_ws import WebSocketView as View
from flask_ws_asgi import ASGI

from .asgi import Driver, make_scope
from .waiting import PATIENCE

__all__ = ["KINDS", "Site", "every_kind", "on_loop"]

KINDS = ("blocking", "view", "async", "async-view")


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on an asyncio loop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Recorder:
    """What handlers have seen."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, str]] = []
        self.received: list[str | bytes] = []
        self.free = threading.Event()
        self.returned = threading.Event()


class Site:
    """An app with an echo of each kind, and its ASGI application."""

    def __init__(self) -> None:
        self.app = flask.Flask(__name__)
        self.app.secret_key = "not a secret"
        self.sock = sock = Sock(self.app)
        self.asgi = ASGI(self.app)
        self.seen = seen = Recorder()

        @sock.route("/blocking", subprotocols=["chat"])
        def blocking(ws: WebSocket) -> None:
            try:
                while True:
                    ws.send(ws.receive())
            except ConnectionClosed as end:
                seen.ends.append((end.code, str(end.reason)))

        @sock.route("/view", subprotocols=["chat"])
        class Echo(View):
            def on_message(self, ws: WebSocket, message: str | bytes) -> None:
                ws.send(message)

            def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
                seen.ends.append((code, reason))

        @sock.route("/async", subprotocols=["chat"])
        async def coroutine(ws: AsyncWebSocket) -> None:
            try:
                while True:
                    await ws.send(await ws.receive())
            except ConnectionClosed as end:
                seen.ends.append((end.code, str(end.reason)))

        @sock.route("/async-view", subprotocols=["chat"])
        class AsyncEcho(AsyncWebSocketView):
            async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
                await ws.send(message)

            async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
                seen.ends.append((code, reason))

    def add_busy(self) -> None:
        """Add handlers of each kind that receive when they are told to."""
        sock, seen = self.sock, self.seen

        @sock.route("/busy-blocking")
        def busy(ws: WebSocket) -> None:
            seen.free.wait(PATIENCE)
            seen.received.extend(ws)

        @sock.route("/busy-view")
        class Busy(View):
            def on_message(self, ws: WebSocket, message: str | bytes) -> None:
                seen.free.wait(PATIENCE)
                seen.received.append(message)

        @sock.route("/busy-async")
        async def busy_async(ws: AsyncWebSocket) -> None:
            await asyncio.to_thread(seen.free.wait, PATIENCE)
            async for message in ws:
                seen.received.append(message)

        @sock.route("/busy-async-view")
        class BusyAsync(AsyncWebSocketView):
            async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
                await asyncio.to_thread(seen.free.wait, PATIENCE)
                seen.received.append(message)

    def open(self, path: str, **scope: Any) -> Driver:
        return Driver(self.asgi, make_scope(path, **scope))

    async def connect(self, path: str, **scope: Any) -> Driver:
        driver = self.open(path, **scope)
        await driver.accepted()
        return driver


every_kind = pytest.mark.parametrize("kind", KINDS)
