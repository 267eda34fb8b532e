"""Publishing in a coroutine: the loop goes on whatever the broker does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from flask import Flask
from tests.support.memory import MemoryServer
from tests.support.waiting import PATIENCE

from flask_ws import AsyncWebSocket, Broker, BrokerError, Sock, hookimpl
from flask_ws.plugin.manager import Plugins


class Hanging(Broker):
    """A broker that does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.published: list[str] = []

    def start(self, deliver: Callable[..., object]) -> None: ...

    def publish(self, channel: str, payload: bytes) -> None:
        assert self.release.wait(PATIENCE)
        self.published.append(channel)

    def subscribe(self, channel: str) -> None: ...

    def unsubscribe(self, channel: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def hanging(no_plugins: Plugins, app: Flask) -> Hanging:
    broker = Hanging()

    class Plugin:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            return broker if url == "hanging://" else None

    no_plugins.register(Plugin)
    app.config["SOCK_BROKER_URL"] = "hanging://"
    return broker


def test_loop_goes_on_while_the_broker_hangs(
    hanging: Hanging, app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/publish")
    async def publish(ws: AsyncWebSocket) -> None:
        async for message in ws:
            await ws.send_json(bool(await sock.apublish("news", message)))

    @sock.route("/")
    async def echo(ws: AsyncWebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    publishers = [server.connect(app, "/publish", detach=True) for _ in range(20)]
    for peer in publishers:
        peer.send("news")
    other = server.connect(app, detach=True)
    assert other.echo("hello") == "hello"
    hanging.release.set()
    assert [peer.read() for peer in publishers] == ["true"] * 20


def test_app_has_the_loops_threads_to_itself_while_the_broker_hangs(
    hanging: Hanging, app: Flask, sock: Sock
) -> None:
    async def publish() -> str:
        with app.app_context():
            tasks = [asyncio.create_task(sock.apublish("news", "new")) for _ in range(50)]
            await asyncio.sleep(0)
            done = await asyncio.wait_for(asyncio.to_thread(lambda: "done"), PATIENCE)
            assert not any(task.done() for task in tasks)
            hanging.release.set()
            assert all(await asyncio.gather(*tasks))
        return done

    assert asyncio.run(publish()) == "done"


def test_what_one_task_publishes_keeps_its_order(hanging: Hanging, app: Flask, sock: Sock) -> None:
    hanging.release.set()
    names = [f"channel {number}" for number in range(50)]

    async def publish() -> None:
        with app.app_context():
            for name in names:
                await sock.apublish_json(name, {"a": 1})

    asyncio.run(publish())
    assert [each.partition("channel")[2] for each in hanging.published] == [
        each.partition("channel")[2] for each in names
    ]


def test_broker_that_is_away_is_told(
    hanging: Hanging, app: Flask, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(channel: str, payload: bytes) -> None:
        raise BrokerError("away")

    async def publish() -> bool:
        with app.app_context():
            return bool(await sock.apublish("news", bytearray(b"new")))

    monkeypatch.setattr(hanging, "publish", fail)
    assert asyncio.run(publish()) is False


def test_without_a_broker_nothing_waits(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        await ws.subscribe("news")
        assert await sock.apublish("news", "to all")
        await sock.apublish("news", "not to itself", exclude=ws)
        await sock.apublish_json("news", [1])

    peer = server.connect(app, detach=True)
    assert [peer.read(), peer.read()] == ["to all", "[1]"]


@pytest.mark.parametrize(
    ("channel", "data", "error"), [("", "news", ValueError), ("news", 1, TypeError)]
)
def test_mistakes_are_told_as_by_publish(
    hanging: Hanging, app: Flask, sock: Sock, channel: str, data: str, error: type[Exception]
) -> None:
    async def publish() -> None:
        with app.app_context():
            await sock.apublish(channel, data)

    with pytest.raises(error):
        asyncio.run(publish())
