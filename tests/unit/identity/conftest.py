from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_ws import AsyncWebSocket, AsyncWebSocketView, Sock, WebSocket, WebSocketView
from flask_ws.testing import connect

KINDS = ("handler", "view", "async", "async_view")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """What runs on the connection: all kinds behave the same."""
    assert isinstance(request.param, str)
    return request.param


def declare(sock: Sock, kind: str, ended: list[Any] | None = None) -> None:
    """A route that says who the client is; ``set`` and a number set when the login expires.

    :param ended: gets the code and the reason at the end of each connection.
    """
    make = {"handler": make_handler, "view": make_view, "async": make_async}
    made = make.get(kind, make_async_view)([] if ended is None else ended)
    sock.route("/")(made)


def answer(ws: WebSocket | AsyncWebSocket, message: str | bytes) -> str:
    text = str(message)
    if text.startswith("set "):
        ws.expires_at = float(text[4:])
    return f"{text} {ws.identity}"


def make_handler(ended: list[Any]) -> Any:
    def handler(ws: WebSocket) -> None:
        ws.send(str(ws.identity))
        for message in ws:
            ws.send(answer(ws, message))
        ended.append((ws.close_code, ws.close_reason))

    return handler


def make_view(ended: list[Any]) -> Any:
    class View(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            ws.send(str(ws.identity))

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(answer(ws, message))

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            ended.append((code, reason))

    return View


def make_async(ended: list[Any]) -> Any:
    async def handler(ws: AsyncWebSocket) -> None:
        await ws.send(str(ws.identity))
        async for message in ws:
            await ws.send(answer(ws, message))
        ended.append((ws.close_code, ws.close_reason))

    return handler


def make_async_view(ended: list[Any]) -> Any:
    class View(AsyncWebSocketView):
        async def on_open(self, ws: AsyncWebSocket) -> None:
            await ws.send(str(ws.identity))

        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            await ws.send(answer(ws, message))

        async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
            ended.append((code, reason))

    return View


def as_user(app: Flask, name: str | None) -> Any:
    """Connect as a user, whom a header names."""
    return connect(app, "/", headers={"X-User": name} if name else {})
