"""The handlers once more, as async functions of the same names.

Where async handlers are under test, these take the places of the others, on the same routes:
whatever a test says of a handler holds for both kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import time
from collections.abc import Callable
from typing import Any

from flask import abort, request

from flask_ws import AsyncWebSocket

from .base import Handler, async_handlers, facts_of_request, is_released, record, recorded, sock


def counterpart(handler: Handler) -> Handler:
    """Let an async function stand in for the handler of its name, watched as that is."""

    @functools.wraps(handler)
    async def run(ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        with recorded(ws):
            await handler(ws, *args, **kwargs)

    async_handlers[handler.__name__] = run
    return handler


@counterpart
async def echo(ws: AsyncWebSocket, name: str = "") -> None:
    while True:
        await ws.send(await ws.receive())


@counterpart
async def iterate(ws: AsyncWebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@counterpart
async def fail(ws: AsyncWebSocket) -> None:
    await ws.send("about to raise")
    raise RuntimeError(f"failed on purpose {request.args['tag']}")


@counterpart
async def abort_late(ws: AsyncWebSocket) -> None:
    await ws.send("about to abort")
    abort(401)


@counterpart
async def leave(ws: AsyncWebSocket, name: str) -> None:
    await ws.receive()
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[name]


@counterpart
async def end_by_return(ws: AsyncWebSocket) -> None:
    """Just return."""


@counterpart
async def close(ws: AsyncWebSocket, code: int) -> None:
    await ws.close(code, request.args.get("reason", ""))


@counterpart
async def wait_then_close(ws: AsyncWebSocket) -> None:
    await ws.receive()
    await ws.close(4000, "told to")


@counterpart
async def headers(ws: AsyncWebSocket) -> None:
    await ws.send_json(facts_of_request(ws))


@counterpart
async def big(ws: AsyncWebSocket, size: int) -> None:
    record("sending")
    await ws.send(bytes(range(256)) * (size // 256))
    await ws.send("end")
    await ws.receive()


@counterpart
async def fan(ws: AsyncWebSocket, senders: int, messages: int) -> None:
    async def send_all(sender: int) -> None:
        for number in range(messages):
            size = (sender * 7919 + number * 104729) % 70000
            await ws.send(bytes([sender]) * size)

    tasks = [asyncio.create_task(send_all(sender)) for sender in range(senders)]
    await ws.receive()
    await asyncio.gather(*tasks)


@counterpart
async def busy(ws: AsyncWebSocket) -> None:
    tag = request.args["tag"]
    deadline = time.monotonic() + 10
    while not is_released(tag) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    record("awake", connected=ws.connected, close_code=ws.close_code)
    while True:
        await ws.send(await ws.receive())


@counterpart
async def compute(ws: AsyncWebSocket) -> None:
    tag = request.args["tag"]
    deadline = time.monotonic() + 10
    while not is_released(tag) and time.monotonic() < deadline:
        # What computes for long does so on a thread.
        await asyncio.to_thread(hashlib.sha256, b"x" * 100_000)
    record("awake", connected=ws.connected, close_code=ws.close_code)
    while True:
        await ws.send(await ws.receive())


@counterpart
async def until_lost(ws: AsyncWebSocket) -> None:
    deadline = time.monotonic() + 10
    while ws.connected and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    record("noticed", connected=ws.connected, close_code=ws.close_code)


@counterpart
async def push(ws: AsyncWebSocket) -> None:
    while True:
        await ws.send(bytes(65536))


@counterpart
async def receive_timeout(ws: AsyncWebSocket) -> None:
    started = time.monotonic()
    message = await ws.receive(timeout=float(request.args["seconds"]))
    await ws.send_json({"message": message, "seconds": time.monotonic() - started})
    while True:
        await ws.send(await ws.receive())


@counterpart
async def two_readers(ws: AsyncWebSocket) -> None:
    async def receive_too() -> None:
        await asyncio.sleep(0.1)
        try:
            await ws.receive(timeout=2)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        else:
            outcome = "received"
        await ws.send(outcome)

    await ws.receive()
    task = asyncio.create_task(receive_too())
    while not task.done():
        await ws.send(await ws.receive())
    await task


@counterpart
async def other_thread(ws: AsyncWebSocket, action: str) -> None:
    """Let another task send, ping or close while this one receives."""

    async def act() -> None:
        calls: dict[str, Callable[[], Any]] = {
            "send": lambda: ws.send("from a thread"),
            "ping": ws.ping,
            "close": lambda: ws.close(4001, "from a thread"),
        }
        try:
            await calls[action]()
        except BaseException as error:
            record("acted", error=repr(error))
        else:
            record("acted", error=None)

    await ws.receive()
    task = asyncio.create_task(act())
    try:
        while True:
            await ws.send(await ws.receive())
    finally:
        await task


@counterpart
async def send_after(ws: AsyncWebSocket, seconds: str) -> None:
    await ws.receive()
    await asyncio.sleep(float(seconds))
    for _ in range(200):
        await ws.send(bytes(10000))
        await asyncio.sleep(0.01)


@counterpart
async def pong(ws: AsyncWebSocket) -> None:
    await ws.ping(b"are you there")
    while True:
        await ws.send(await ws.receive())


@counterpart
async def hold(ws: AsyncWebSocket) -> None:
    await ws.send("held")
    await ws.receive()


@counterpart
async def handler(ws: AsyncWebSocket, channel: str) -> None:
    """That of live_channels."""
    await ws.subscribe(channel)
    await ws.send("ready")
    async for message in ws:
        sock.publish(channel, message, exclude=ws)


@counterpart
async def deaf(ws: AsyncWebSocket) -> None:
    while ws.connected:
        await asyncio.sleep(0.02)


@counterpart
async def interrupted(ws: AsyncWebSocket) -> None:
    for number in range(20):
        # Of Python 3.10, too; asyncio.timeout() came with 3.11.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ws.send(number.to_bytes(4, "big") * 50_000), 0.005)
    await ws.send("that was all")


@counterpart
async def tidy(ws: AsyncWebSocket, seconds: str) -> None:
    while ws.connected:
        await asyncio.sleep(0.02)
    record("tidying")
    await asyncio.sleep(float(seconds))
    record("tidied")


# Beside the handlers of the other kind, for those who want both in one app.
ROUTES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("echo", "/async/echo", {}),
    ("echo", "/async/pinged", {"ping_interval": 0.2, "ping_timeout": 0.4}),
    ("push", "/async/push", {"ping_interval": 0.3, "ping_timeout": 0.5}),
    ("deaf", "/async/deaf", {"ping_interval": 0.3, "ping_timeout": 0.5}),
)
for name, path, options in ROUTES:
    sock.route(path, endpoint=path[1:].replace("/", "-"), **options)(async_handlers[name])
