"""An ASGI server that stops: by lifespan, by a signal, or as Hypercorn tells its workers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
from tests.support.asgi_site import Site, every_kind, on_loop
from tests.support.waiting import PATIENCE

from flask_ws import WebSocket, notice_stop
from flask_ws_asgi import ASGI, stopping


class Server:
    """Keeps the signals that it has heard of."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.told = asyncio.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.heard.append(number)
        self.told.set()

    def listen(self) -> None:
        signal.signal(signal.SIGTERM, self)


@pytest.fixture(autouse=True)
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The signals of the process are what they were, afterwards."""
    monkeypatch.setattr(stopping, "signals", stopping.Signals())
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@every_kind
@on_loop
async def test_stop_of_the_server_is_told_clients_at_once(site: Site, kind: str) -> None:
    driver = await site.connect(f"/{kind}")
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    life = asyncio.ensure_future(site.asgi({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.startup"})
    assert await answers.get() == {"type": "lifespan.startup.complete"}
    events.put_nowait({"type": "lifespan.shutdown"})
    assert (await driver.closed())[0] == 1001
    await driver.ended()
    assert await answers.get() == {"type": "lifespan.shutdown.complete"}
    await life


@on_loop
async def test_server_that_starts_again_tells_nobody_that_it_stops(site: Site) -> None:
    for _ in range(2):
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        life = asyncio.ensure_future(site.asgi({"type": "lifespan"}, events.get, answers.put))
        events.put_nowait({"type": "lifespan.startup"})
        assert await answers.get() == {"type": "lifespan.startup.complete"}
        driver = await site.connect("/view")
        for _ in range(20):
            notice_stop()
            driver.say("hello")
            assert await driver.message() == "hello"
        driver.leave(1000)
        await driver.ended()
        events.put_nowait({"type": "lifespan.shutdown"})
        await life


@every_kind
@on_loop
async def test_clients_are_told_before_the_server_hears_of_a_signal(site: Site, kind: str) -> None:
    server = Server()
    server.listen()
    driver = await site.connect(f"/{kind}")
    driver.writable.clear()
    stop()
    await asyncio.sleep(0.05)
    assert server.heard == []
    driver.writable.set()
    assert (await driver.closed())[0] == 1001
    await driver.ended()
    await asyncio.wait_for(server.told.wait(), PATIENCE)
    assert server.heard == [signal.SIGTERM]


@on_loop
async def test_goodbye_is_with_the_server_in_the_next_turn_of_its_loop(site: Site) -> None:
    server = Server()
    server.listen()
    drivers = [await site.connect("/async") for _ in range(3)]
    for driver in drivers:
        driver.say("hello")
        assert await driver.message() == "hello"
    for each in list(stopping.signals._listeners):
        each.begin()
    await asyncio.sleep(0)
    assert all(driver.has_sent for driver in drivers)
    for driver in drivers:
        await driver.ended()


@on_loop
async def test_client_that_does_not_answer_keeps_no_signal_from_the_server(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "ANSWERING", 0.05)
    server = Server()
    server.listen()
    driver = await site.connect("/view")
    driver.answers = False
    stop()
    await asyncio.wait_for(server.told.wait(), PATIENCE)
    assert not driver.task.done()
    driver.leave()
    await driver.ended()


@on_loop
async def test_second_signal_is_for_the_server_at_once(site: Site) -> None:
    server = Server()
    server.listen()
    driver = await site.connect("/view")
    driver.answers = False
    stop()
    stop()
    assert server.heard == [signal.SIGTERM]
    driver.leave()
    await driver.ended()
    while len(server.heard) < 2:
        server.told.clear()
        await asyncio.wait_for(server.told.wait(), PATIENCE)


@on_loop
async def test_server_that_listens_later_than_the_first_handshake_is_heard(site: Site) -> None:
    first = await site.connect("/view")
    server = Server()
    server.listen()
    second = await site.connect("/view")
    stop()
    for driver in (first, second):
        assert (await driver.closed())[0] == 1001
        await driver.ended()
    await asyncio.wait_for(server.told.wait(), PATIENCE)


@on_loop
async def test_several_applications_of_a_process_listen_once(site: Site) -> None:
    server = Server()
    server.listen()
    other = ASGI(site.app)
    handlers = set()
    drivers = []
    for _ in range(2):
        for asgi in (site.asgi, other):
            site.asgi = asgi
            drivers.append(await site.connect("/view"))
            handlers.add(signal.getsignal(signal.SIGTERM))
    assert len(handlers) == 1
    stop()
    for driver in drivers:
        assert (await driver.closed())[0] == 1001
        await driver.ended()
    await asyncio.wait_for(server.told.wait(), PATIENCE)


@on_loop
async def test_hypercorns_workers_are_told_by_an_event(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = threading.Event()
    process = SimpleNamespace(name="Process-1", _kwargs={"shutdown_event": event})
    monkeypatch.setattr(multiprocessing, "current_process", lambda: process)
    driver = await site.connect("/view")
    event.set()
    assert (await driver.closed())[0] == 1001
    await driver.ended()


@on_loop
async def test_handlers_have_as_long_as_the_application_says(site: Site) -> None:
    @site.sock.route("/lasting")
    def lasting(ws: WebSocket) -> None:
        site.seen.free.wait(PATIENCE)

    site.asgi = ASGI(site.app, stop_timeout=0.05)
    driver = await site.connect("/lasting")
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    life = asyncio.ensure_future(site.asgi({"type": "lifespan"}, events.get, answers.put))
    events.put_nowait({"type": "lifespan.shutdown"})
    assert (await driver.closed())[0] == 1001
    await life
    assert not driver.task.done()
    site.seen.free.set()
    await driver.ended()
