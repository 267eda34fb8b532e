"""Run by uvicorn."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

subscribers: set[WebSocket] = set()


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    while (event := await ws.receive())["type"] == "websocket.receive":
        if event.get("bytes") is not None:
            await ws.send_bytes(event["bytes"])
        else:
            await ws.send_text(event["text"])


async def subscribe(ws: WebSocket) -> None:
    await ws.accept()
    subscribers.add(ws)
    try:
        await ws.send_text("ready")
        while (await ws.receive())["type"] == "websocket.receive":
            pass
    finally:
        subscribers.discard(ws)


async def publish(ws: WebSocket) -> None:
    await ws.accept()
    while (event := await ws.receive())["type"] == "websocket.receive":
        for each in list(subscribers):
            await each.send_bytes(event["bytes"])


app = Starlette(
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/subscribe", subscribe),
        WebSocketRoute("/publish", publish),
    ]
)
