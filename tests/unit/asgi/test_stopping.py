"""An ASGI server that stops: by lifespan, or as Hypercorn tells its workers."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.asgi_site import Site, every_kind, on_loop
from tests.support.waiting import PATIENCE

from flask_ws import WebSocket, notice_stop
from flask_ws_asgi import ASGI


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
