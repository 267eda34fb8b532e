"""Async handlers that end otherwise than they should, and tasks of theirs."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import Any

import pytest
from flask import Flask, got_request_exception
from tests.support.memory import MemoryServer, settle_all
from tests.support.waiting import PATIENCE, until

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    ConnectionClosed,
    Sock,
    WebSocket,
    WebSocketView,
)
from flask_ws.http import async_run
from flask_ws.views.advice import is_closed

#: Python 3.11 and later.
TaskGroup: Any = getattr(asyncio, "TaskGroup", None)
timeout: Any = getattr(asyncio, "timeout", None)
on_groups = pytest.mark.skipif(TaskGroup is None, reason="Python has no TaskGroup")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "flask_ws")
    return caplog


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_run, "LEAST", 0.05)


def test_handler_that_swallows_its_cancellation_is_named_with_its_line(
    app: Flask, sock: Sock, server: MemoryServer, log: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def wait_on() -> None:
        await release.wait()  # the line that waits

    @sock.route("/stubborn", close_timeout=0.05)
    async def stubborn(ws: AsyncWebSocket) -> None:
        loops.append(ws.loop)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await wait_on()

    server.connect(app, "/stubborn", detach=True).close()
    until(lambda: "still runs" in log.text)
    loops[0].call_soon_threadsafe(release.set)
    settle_all()
    (line,) = [each for each in log.messages if "still runs" in each]
    assert "127.0.0.1 /stubborn: test_handler_that_swallows" in line
    assert "stubborn was cancelled 0.05 s ago" in line
    assert "test_async_endings.py:" in line
    assert "in wait_on" in line


def test_handler_that_ends_when_cancelled_is_not_warned_of(
    app: Flask, sock: Sock, server: MemoryServer, log: pytest.LogCaptureFixture
) -> None:
    @sock.route("/", close_timeout=0.01)
    async def handler(ws: AsyncWebSocket) -> None:
        await asyncio.sleep(60)

    server.connect(app, detach=True).close()
    settle_all()
    threading.Event().wait(0.1)
    assert "still runs" not in log.text


def test_handler_whose_connection_ended_before_it_began_is_cancelled(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: Future[str] = Future()
    begin = async_run.AsyncRun._open

    async def lose(run: async_run.AsyncRun) -> None:
        await begin(run)
        run._connection.lose("on purpose")

    @sock.route("/", close_timeout=0.01)
    async def handler(ws: AsyncWebSocket) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise

    monkeypatch.setattr(async_run.AsyncRun, "_open", lose)
    server.accepted(server.call(app, detach=True))
    assert ended.result(PATIENCE) == "cancelled"
    settle_all()


@pytest.mark.parametrize("message", [None, "go"], ids=["idle", "after-a-method"])
def test_on_close_that_does_not_end_is_cancelled(
    app: Flask, sock: Sock, server: MemoryServer, message: str | None
) -> None:
    """Also where the method before it had to be cancelled."""
    ended: Future[str] = Future()

    @sock.route("/", close_timeout=0.01)
    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            await asyncio.sleep(60)

        async def on_close(self, ws: AsyncWebSocket, code: int, reason: str) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.set_result("cancelled")
                raise

    peer = server.connect(app, detach=True)
    if message is not None:
        peer.send(message)
    peer.close()
    assert ended.result(PATIENCE) == "cancelled"
    settle_all()


def test_handler_has_as_long_as_its_stopping_server_waits(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """Not only the close_timeout that it has where the client leaves."""
    outcome: Future[str] = Future()

    @sock.route("/", close_timeout=0.05)
    async def handler(ws: AsyncWebSocket) -> None:
        async for _ in ws:
            pass
        try:
            await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            outcome.set_result("cancelled")
            raise
        outcome.set_result("done")

    stop = threading.Event()
    peer = server.connect(app, detach=True, is_stopping=stop.is_set, stop_timeout=60.0)
    stop.set()
    assert peer.answer_close().close_code == 1001
    assert outcome.result(PATIENCE) == "done"
    settle_all()


@pytest.mark.parametrize("left", [False, True], ids=["client-stays", "client-has-left"])
def test_handler_is_cancelled_before_its_server_ends_the_process(
    app: Flask, sock: Sock, server: MemoryServer, left: bool
) -> None:
    """Also where it is to go on without its client: nobody would be there to end it."""
    outcome: Future[str] = Future()

    @sock.route("/", close_timeout=60, cancel_on_close=False)
    async def handler(ws: AsyncWebSocket) -> None:
        async for _ in ws:
            pass
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            outcome.set_result("cancelled")
            raise

    stop = threading.Event()
    peer = server.connect(app, detach=True, is_stopping=stop.is_set, stop_timeout=0.05)
    if left:
        peer.close()
    stop.set()
    if not left:
        assert peer.answer_close().close_code == 1001
    assert outcome.result(PATIENCE) == "cancelled"
    settle_all()


def test_exception_in_code_after_the_close_is_reported(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    errors: list[str] = []
    torn: Future[BaseException | None] = Future()
    app.teardown_request(torn.set_result)

    def receiver(sender: Flask, exception: Exception) -> None:
        errors.append(str(exception))

    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        try:
            await ws.receive()
        finally:
            await asyncio.sleep(0)
            raise LookupError("while tidying up")

    with got_request_exception.connected_to(receiver, app):
        server.connect(app, detach=True).close()
        assert isinstance(torn.result(PATIENCE), LookupError)
        settle_all()
    assert errors == ["while tidying up"]


# Errors in what is told of errors


def fail_blocking(ws: WebSocket) -> None:
    raise LookupError("of the handler")


async def fail_async(ws: AsyncWebSocket) -> None:
    raise LookupError("of the handler")


class FailBlocking(WebSocketView):
    def on_open(self, ws: WebSocket) -> None:
        raise LookupError("of the handler")


class FailAsync(AsyncWebSocketView):
    async def on_open(self, ws: AsyncWebSocket) -> None:
        raise LookupError("of the handler")


failing = pytest.mark.parametrize(
    "target", [fail_blocking, fail_async, FailBlocking, FailAsync], ids=lambda each: each.__name__
)


@failing
def test_error_that_cannot_be_reported_is_1011_and_logged(
    app: Flask, sock: Sock, server: MemoryServer, log: pytest.LogCaptureFixture, target: Any
) -> None:
    def receiver(sender: Flask, exception: Exception) -> None:
        raise ValueError("of the receiver")

    sock.route("/")(target)
    with got_request_exception.connected_to(receiver, app):
        peer = server.connect(app, detach=True)
        assert peer.answer_close().close_code == 1011
        settle_all()
    assert "127.0.0.1 /: an exception could not be reported." in log.text
    assert "LookupError: of the handler" in log.text
    assert "ValueError: of the receiver" in log.text


@pytest.mark.parametrize("target", [fail_async, FailAsync])
def test_exit_in_a_teardown_function_leaves_no_connection_open(
    app: Flask, sock: Sock, server: MemoryServer, target: Any
) -> None:
    @app.teardown_request
    def leave(error: BaseException | None) -> None:
        if error is not None:
            raise SystemExit

    sock.route("/")(target)
    server.connect(app, detach=True).answer_close()
    settle_all()


# Groups of tasks


def group_of(*errors: Exception) -> Exception:
    """Make an exception group; also where Python has none, as anyio has one then."""

    class Group(Exception):
        exceptions = errors

    return Group()


@pytest.mark.parametrize(
    ("error", "closed"),
    [
        (ConnectionClosed(1000), True),
        (group_of(ConnectionClosed(1000)), True),
        (group_of(ConnectionClosed(1000), group_of(ConnectionClosed(1000))), True),
        (group_of(ConnectionClosed(1000), ValueError()), False),
        (group_of(), False),
        (ValueError(), False),
    ],
)
def test_group_of_nothing_but_ends_is_an_end(error: Exception, closed: bool) -> None:
    assert is_closed(error) is closed


@on_groups
@pytest.mark.parametrize("kind", ["handler", "view"])
def test_end_that_tasks_of_a_group_learn_of_is_no_error(
    app: Flask, sock: Sock, server: MemoryServer, log: pytest.LogCaptureFixture, kind: str
) -> None:
    async def talk(ws: Any) -> None:
        async def send_on() -> None:
            while True:
                await ws.send("on")
                await asyncio.sleep(0.01)

        async with TaskGroup() as group:
            group.create_task(send_on())
            group.create_task(send_on())

    async def handler(ws: AsyncWebSocket) -> None:
        await talk(ws)

    class View(AsyncWebSocketView):
        async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
            await talk(ws)

    target: Any = View if kind == "view" else handler
    sock.route("/")(target)
    peer = server.connect(app, detach=True)
    peer.send("go")
    assert peer.read() == "on"
    peer.send_close(4000)
    assert peer.read_close(after="anything").close_code == 4000
    settle_all()
    assert "Exception on /" not in log.text


@on_groups
def test_error_in_a_group_beside_the_end_is_1011(
    app: Flask, sock: Sock, server: MemoryServer, log: pytest.LogCaptureFixture
) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        async def fail() -> None:
            await ws.receive()
            raise LookupError("in a task")

        async with TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))

    peer = server.connect(app, detach=True)
    peer.send("go")
    assert peer.answer_close().close_code == 1011
    settle_all()
    assert "LookupError: in a task" in log.text


@on_groups
def test_timeout_around_receive_loses_no_message(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        received: list[Any] = []
        while len(received) < 100:
            try:
                async with timeout(0.0005):
                    received.append(await ws.receive())
            except TimeoutError:
                pass
        await ws.send_json(received)

    peer = server.connect(app, detach=True)
    for number in range(100):
        peer.send(str(number))
        threading.Event().wait(0.0005)
    assert peer.read() == str([str(number) for number in range(100)]).replace("'", '"')


def test_slow_reader_holds_up_nobody_else(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/flood")
    async def flood(ws: AsyncWebSocket) -> None:
        while True:
            await ws.send(bytes(100_000))

    @sock.route("/")
    async def echo(ws: AsyncWebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    slow = [server.connect(app, "/flood", detach=True) for _ in range(5)]
    others = [server.connect(app, detach=True) for _ in range(20)]
    for _ in range(5):
        assert [peer.echo("hello") for peer in others] == ["hello"] * 20
    for peer in [*slow, *others]:
        peer.sock.close()
    settle_all()
