"""Sending for many connections of messages by one task."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.waiting import PATIENCE

from flask_ws.connection.dispatcher import Dispatcher
from flask_ws.connection.outlet import Outlet


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on an asyncio loop."""

    @functools.wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), PATIENCE))

    return run


class Server:
    """The server's side of connections; it also stands for them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.dispatcher = Dispatcher(self.loop)
        self.sent: list[str | bytes] = []
        self.tasks: set[asyncio.Task[Any] | None] = set()
        # The peers that do not read.
        self.slow: dict[str | bytes, asyncio.Future[None]] = {}
        self.lost = 0
        self.on_send: Callable[[str | bytes], object] = lambda _: None

    def outlet(self) -> Outlet:
        outlet = Outlet(self, self, self.dispatcher)  # type: ignore[arg-type]
        outlet.open()
        return outlet

    async def send(self, message: str | bytes) -> None:
        self.tasks.add(asyncio.current_task())
        self.on_send(message)
        if message in self.slow:
            await self.slow[message]
        self.sent.append(message)

    def abort(self) -> None:
        pass

    def lose_while_sending(self, *_: object) -> None:
        self.lost += 1

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@on_loop
async def test_one_task_sends_for_all_connections() -> None:
    server = Server()
    for number in range(10):
        server.outlet().write(str(number), 1)
    await server.settle()
    assert server.sent == [str(number) for number in range(10)]
    assert len(server.tasks) == 1


@on_loop
async def test_slow_peer_holds_up_its_own_messages_only() -> None:
    server = Server()
    slow, other, late = server.outlet(), server.outlet(), server.outlet()
    server.slow["a"] = server.loop.create_future()
    for outlet, message in ((slow, "a"), (other, "x"), (slow, "b"), (other, "y")):
        outlet.write(message, 1)
    await server.settle()
    late.write("z", 1)
    await server.settle()
    assert server.sent == ["x", "y", "z"]
    assert [each.is_idle for each in (slow, other, late)] == [False, True, True]
    server.slow["a"].set_result(None)
    await server.settle()
    assert server.sent == ["x", "y", "z", "a", "b"]


@on_loop
async def test_connection_that_is_aborted_leaves_the_others_alone() -> None:
    server = Server()
    slow, other = server.outlet(), server.outlet()
    server.slow["a"] = server.loop.create_future()
    slow.write("a", 1)
    await server.settle()
    other.write("x", 1)
    slow.abort()
    await server.settle()
    other.write("y", 1)
    await server.settle()
    assert server.sent == ["x", "y"]


@on_loop
async def test_connection_aborted_at_once_leaves_the_others_alone() -> None:
    server = Server()
    slow, other = server.outlet(), server.outlet()
    server.slow["a"] = server.loop.create_future()
    slow.write("a", 1)
    other.write("x", 1)
    # As soon as the task waits, and before another has taken over.
    server.on_send = lambda message: message == "a" and server.loop.call_soon(slow.abort)
    await server.settle()
    assert server.sent == ["x"]


@on_loop
async def test_connection_aborted_by_its_own_send_leaves_the_others_alone() -> None:
    server = Server()
    ending, other = server.outlet(), server.outlet()
    server.slow["x"] = server.loop.create_future()

    def end(message: str | bytes) -> None:
        if message == "a":
            ending.abort()

    server.on_send = end
    ending.write("a", 1)
    other.write("x", 1)
    await server.settle()
    server.slow["x"].set_result(None)
    await server.settle()
    assert server.sent == ["a", "x"]


@on_loop
async def test_connection_that_fails_leaves_the_others_alone() -> None:
    server = Server()

    def fail(message: str | bytes) -> None:
        if message == "a":
            raise OSError("gone")

    server.on_send = fail
    server.outlet().write("a", 1)
    server.outlet().write("x", 1)
    await server.settle()
    assert (server.sent, server.lost) == (["x"], 1)


if sys.version_info >= (3, 12):

    @on_loop
    async def test_loop_whose_tasks_begin_at_once() -> None:
        server = Server()
        server.loop.set_task_factory(asyncio.eager_task_factory)
        outlet = server.outlet()
        for message in ("a", "b"):
            outlet.write(message, 1)
            await server.settle()
        assert server.sent == ["a", "b"]
