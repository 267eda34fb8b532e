"""The exchange rates: many clients wait for a slow upstream at once, and few threads do."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from examples.rates import app as module
from examples.rates.app import app
from tests.docs.serving import serve
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial

from flask_ws.testing import aconnect
from flask_ws.testing.suite.process import find_port, wait_until

ROOT = Path(__file__).parents[2]
#: Clients that ask at the same time.
CLIENTS = 300


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The example's own upstream, and its port."""
    port = find_port()
    monkeypatch.setenv("UPSTREAM_PORT", str(port))
    monkeypatch.setattr(module, "PORT", port)
    process = subprocess.Popen([sys.executable, ROOT / "examples/rates/upstream.py"])

    async def reach() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        wait_until(lambda: asyncio.run(reach()), timeout=20)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def test_a_rate_is_what_the_upstream_says(upstream: int) -> None:
    async def ask() -> None:
        async with aconnect(app, "/rates") as ws:
            await ws.send("usd")
            assert (await ws.receive_json())["rate"] == "1.0842"
            await ws.send("XXX")
            assert (await ws.receive_json())["rate"] is None

    asyncio.run(ask())


def test_an_upstream_that_is_away_is_told_of() -> None:
    async def ask() -> None:
        async with aconnect(app, "/rates") as ws:
            await ws.send("USD")
            assert (await ws.receive_json())["rate"] is None

    asyncio.run(ask())


def test_what_is_no_currency_is_answered_with_1008() -> None:
    async def ask() -> None:
        async with aconnect(app, "/rates") as ws:
            await ws.send("dollars")
            assert [message async for message in ws] == []
            assert ws.close_code == 1008

    asyncio.run(ask())


def test_hundreds_wait_at_once_and_few_threads_do(upstream: int, tmp_path: Path) -> None:
    """On Gunicorn, with two threads of its own."""

    async def ask(url: str) -> list[dict[str, Any]]:
        clients = await asyncio.gather(
            *(dial(url, proxy=None, open_timeout=30, ping_interval=None) for _ in range(CLIENTS))
        )

        async def ask_one(client: ClientConnection) -> dict[str, Any]:
            await client.send("USD")
            answer: dict[str, Any] = json.loads(await client.recv())
            return answer

        answers = await asyncio.wait_for(asyncio.gather(*map(ask_one, clients)), 60)
        await asyncio.gather(*(client.close() for client in clients))
        return answers

    command = "gunicorn --threads 2 examples.rates.app:app"
    with serve(command, folder=tmp_path, cwd=ROOT) as served:
        served.await_response()
        answers = asyncio.run(ask(f"ws://127.0.0.1:{served.port}/rates"))
    assert {answer["rate"] for answer in answers} == {"1.0842"}
    # They would be served one after another otherwise, or on a thread each.
    assert max(answer["waiting"] for answer in answers) > CLIENTS / 4
    assert max(answer["threads"] for answer in answers) < 12
