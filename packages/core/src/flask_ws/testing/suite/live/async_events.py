"""The event views once more, with async methods, by the same names."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, TypeVar

from flask import request

from flask_ws import AsyncWebSocket, AsyncWebSocketView, ConnectionClosed

from .base import async_views, is_released, record, see_context

V = TypeVar("V", bound=type[AsyncWebSocketView])


def counterpart(view: V) -> V:
    """Let a view stand in for the one of its name."""
    async_views[view.__name__] = view
    return view


class Watched(AsyncWebSocketView):
    """Records the beginning and the end."""

    ends = 0

    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        record("begin", pid=os.getpid())

    async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
        self.ends += 1
        record("end", code=code, reason=reason, connected=ws.connected, times=self.ends)


@counterpart
class Echo(Watched):
    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await ws.send(message)


@counterpart
class Empty(AsyncWebSocketView):
    """Overrides no method: the defaults do nothing."""


@counterpart
class Order(Watched):
    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await super().on_open(ws)
        self.running = False
        self.expected = 0
        self.faults: list[str] = []

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        if self.running:
            self.faults.append(f"{message!r} came while another method ran")
            return
        self.running = True
        if message == "done":
            await ws.send_json(self.faults)
        else:
            if message != str(self.expected):
                self.faults.append(f"{message!r} in place of {self.expected}")
            self.expected += 1
            await asyncio.sleep(0)
        self.running = False


@counterpart
class Context(Watched):
    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await super().on_open(ws)
        self.room = kwargs["room"]
        await ws.send_json(see_context(self.room))

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await ws.send_json(see_context(self.room))

    async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
        record("closed", **see_context(self.room))
        await super().on_close(ws, code, reason)


@counterpart
class Failing(Watched):
    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await super().on_open(ws)
        self.method = kwargs["method"]
        self.fail_in("on_open")

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        self.fail_in("on_message")

    async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
        await super().on_close(ws, code, reason)
        self.fail_in("on_close")

    def fail_in(self, method: str) -> None:
        if self.method == method:
            raise RuntimeError(f"failed on purpose {request.args['tag']}")


@counterpart
class Closing(Watched):
    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await super().on_open(ws)
        self.code: int = kwargs["code"]

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await ws.close(self.code, str(message))


@counterpart
class Receiving(Watched):
    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        try:
            await ws.receive()
        except RuntimeError as error:
            await ws.send(str(error))


@counterpart
class Blocking(Watched):
    """Waits where the other blocks."""

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        if message == "block":
            tag, deadline = request.args["tag"], time.monotonic() + 10
            while not is_released(tag) and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            record("awake", connected=ws.connected, close_code=ws.close_code)
        else:
            await ws.send(message)


@counterpart
class Stalling(Watched):
    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        try:
            while True:
                await ws.send(bytes(100_000))
        except ConnectionClosed as closed:
            record("stalled", code=closed.code)


@counterpart
class Fan(Watched):
    """At "go", sends from many tasks at once; echoes meanwhile."""

    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await super().on_open(ws)
        self.senders, self.messages = kwargs["senders"], kwargs["messages"]
        self.tasks: list[asyncio.Task[None]] = []

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        if message != "go":
            await ws.send(message)
            return

        async def send_all(sender: int) -> None:
            for number in range(self.messages):
                await ws.send(bytes([sender]) * ((sender * 7919 + number * 104729) % 30000))

        self.tasks = [asyncio.create_task(send_all(sender)) for sender in range(self.senders)]


#: The members of each room.
rooms: dict[str, list[AsyncWebSocket]] = {}


@counterpart
class Room(Watched):
    async def on_open(self, ws: AsyncWebSocket, *args: Any, **kwargs: Any) -> None:
        await super().on_open(ws)
        self.members = rooms.setdefault(kwargs["name"], [])
        self.members.append(ws)
        await ws.send("welcome")

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        data = bytes(int(message))
        for member in list(self.members):
            try:
                await member.send(data)
            except ConnectionClosed:
                pass

    async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
        self.members.remove(ws)
        await super().on_close(ws, code, reason)
