"""The client for tests that are async functions, on asyncio and on Trio."""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from flask import Flask

from flask_ws import AsyncWebSocket, ConnectionClosed, Sock, WebSocket
from flask_ws.testing import HandshakeRefused, aconnect

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


# Trio on Linux asks for epoll, which emulated systems do not have.
@pytest.fixture(params=["asyncio", "trio"] if hasattr(select, "epoll") else ["asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    if request.param == "asyncio":
        return lambda test: asyncio.run(test())  # type: ignore[arg-type]
    return trio.run


async def echo_async(ws: AsyncWebSocket) -> None:
    async for message in ws:
        await ws.send(message)


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@pytest.mark.parametrize("handler", [echo, echo_async])
def test_messages_are_echoed(app: Flask, sock: Sock, run: Run, handler: Any) -> None:
    sock.route("/")(handler)

    async def test() -> None:
        async with aconnect(app, "/") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            await ws.send_json({"a": 1})
            assert await ws.receive_json() == {"a": 1}
            assert await ws.receive(timeout=0.01) is None
            await ws.close(4000, "enough")
        assert (ws.connected, ws.close_code, ws.close_reason) == (False, 4000, "enough")

    run(test)


def test_iteration_ends_with_the_connection(app: Flask, sock: Sock, run: Run) -> None:
    @sock.route("/")
    async def two(ws: AsyncWebSocket) -> None:
        await ws.send("one")
        await ws.send("two")

    async def test() -> None:
        async with aconnect(app, "/") as ws:
            assert [message async for message in ws] == ["one", "two"]
            with pytest.raises(ConnectionClosed):
                await ws.receive()

    run(test)


def test_what_the_handler_raised_is_raised_at_the_end(app: Flask, sock: Sock, run: Run) -> None:
    @sock.route("/")
    async def fail(ws: AsyncWebSocket) -> None:
        raise ValueError("on purpose")

    async def test() -> None:
        async with aconnect(app, "/"):
            pass

    with pytest.raises(ValueError, match="on purpose"):
        run(test)


def test_refusal_is_raised(app: Flask, run: Run) -> None:
    async def test() -> None:
        async with aconnect(app, "/nowhere"):
            pass

    with pytest.raises(HandshakeRefused, match="404"):
        run(test)


def test_cancelled_receive_loses_no_message(app: Flask, sock: Sock) -> None:
    sock.route("/")(echo_async)

    async def test() -> None:
        async with aconnect(app, "/") as ws:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ws.receive(), 0.01)
            assert await ws.receive(timeout=0.01) is None
            await ws.send("kept")
            assert await ws.receive() == "kept"

    asyncio.run(test())


def test_second_receiver_is_told_so(app: Flask, sock: Sock) -> None:
    sock.route("/")(echo_async)

    async def test() -> None:
        async with aconnect(app, "/") as ws:
            first = asyncio.ensure_future(ws.receive())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="Another task is in receive"):
                await ws.receive()
            await ws.send("for the first")
            assert await first == "for the first"

    asyncio.run(test())


def test_connection_that_was_opened_for_nobody_ends(app: Flask, sock: Sock) -> None:
    ended, go_on = threading.Event(), threading.Event()

    @app.before_request
    def wait() -> None:
        go_on.wait(10)

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        try:
            ws.receive()
        finally:
            ended.set()

    async def test() -> None:
        opening = asyncio.ensure_future(aconnect(app, "/").__aenter__())
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    asyncio.run(test())
    go_on.set()
    assert ended.wait(10)


def test_without_async_with_it_says_what_to_do(app: Flask) -> None:
    with pytest.raises(AttributeError, match="async with aconnect"):
        aconnect(app, "/").send("hello")  # type: ignore[attr-defined]
