"""Hundreds of clients that drop and resume while workers and the broker come and go.

It takes its time, so it runs only where it is asked for:

    pytest tests/servers/long_histories.py

``FLASK_WS_HISTORY_SECONDS`` says for how long, a minute by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import pytest
from tests.support import brokers
from tests.support.chaos import LOST, Crowd
from tests.support.chaos import Client as Wire
from tests.support.postgresql import PostgresServer
from tests.support.redis import RedisServer
from tests.support.setups import GUNICORN

from flask_ws.testing import Setup
from flask_ws.testing.suite.process import Server
from flask_ws.testing.suite.raw import TEXT, encode_close, encode_frame

from .ours import APPS, running

SECONDS = float(os.environ.get("FLASK_WS_HISTORY_SECONDS", "60"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 240),
]

CLIENTS = 400
PUBLISHERS = 20
CHANNELS = [f"channel{number}" for number in range(10)]
SETUP = Setup(
    name="gunicorn-listeners",
    command=f"{GUNICORN} --workers 4 --threads 8 --graceful-timeout 3 listeners:app",
)

Place = tuple[str, int]


class BrokerServer(brokers.Server, Protocol):
    """One that can be stopped for a while, too."""

    @property
    def url(self) -> str: ...

    def signal(self, number: signal.Signals) -> None: ...

    def remove(self) -> None: ...


def read_place(text: str) -> Place | None:
    epoch, _, offset = text.rpartition("-")
    return (epoch, int(offset)) if epoch else None


class Account:
    """What one client has got of one channel, over all its connections."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.place: Place | None = None
        self.texts: set[str] = set()
        self.without_position: set[str] = set()
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.is_after_gap = True

    def begin(self, place: Place | None, *, is_whole: bool) -> None:
        if not is_whole or self.place is None:
            self.counts["gaps"] += not is_whole
            # What is kept comes next, as far as it was told.
            self.is_after_gap = True
        if self.place is None:
            self.place = place

    def take(self, place: Place | None, text: str, *, is_after_gap: bool) -> None:
        self.counts["messages"] += 1
        if text in self.texts:
            # Without a position first: the broker has kept what its publisher had no answer to.
            kind = "once without a position" if text in self.without_position else "twice"
            self.faults.append(f"{kind}, and again: {text} at {place}")
        self.texts.add(text)
        if place is None:
            self.counts["without a position"] += 1
            self.without_position.add(text)
            return
        may_jump, self.is_after_gap = is_after_gap or self.is_after_gap, False
        self.counts["gaps"] += is_after_gap
        before, self.place = self.place, place
        if before is not None and before[0] == place[0] and place[1] <= before[1]:
            self.faults.append(f"order: {place} after {before}: {text}")
        elif not may_jump and before is not None and place != (before[0], before[1] + 1):
            self.faults.append(f"hole: {place} after {before}: {text}")


class Run:
    """One run: the clients, the publishers, and what happens to the server and to the broker's."""

    def __init__(self, server: Server, broker: BrokerServer) -> None:
        self.server, self.broker = server, broker
        self.crowd = Crowd(server, SECONDS)
        self.accounts = [Account(CHANNELS[number % len(CHANNELS)]) for number in range(CLIENTS)]
        self.is_over = False
        self.published: Counter[str] = Counter()
        #: The last position of each channel.
        self.ends: dict[str, Place] = {}

    async def run(self) -> None:
        clients = [
            asyncio.create_task(self.listen(account, random.Random(number)))
            for number, account in enumerate(self.accounts)
        ]
        publishers = [
            asyncio.create_task(self.publish(number, random.Random(number)))
            for number in range(PUBLISHERS)
        ]
        await self.trouble()
        self.is_over = True
        await asyncio.gather(*publishers)
        await self.publish_last()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self.has_ended():
            await asyncio.sleep(0.2)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def has_ended(self) -> bool:
        return all(account.place == self.ends.get(account.channel) for account in self.accounts)

    async def trouble(self) -> None:
        """Workers are replaced; the broker is stopped, goes on, is killed, and started again."""
        await asyncio.sleep(SECONDS / 6)
        self.server.signal(signal.SIGHUP)
        await asyncio.sleep(SECONDS / 6)
        self.broker.signal(signal.SIGSTOP)
        await asyncio.sleep(SECONDS / 12)
        self.broker.signal(signal.SIGCONT)
        await asyncio.sleep(SECONDS / 4)
        await asyncio.to_thread(self.broker.kill)
        await asyncio.sleep(SECONDS / 12)
        await asyncio.to_thread(self.broker.start)
        await asyncio.sleep(SECONDS / 4)

    async def listen(self, account: Account, chance: random.Random) -> None:
        """Be connected most of the time."""
        while True:
            since = ""
            if account.place is not None:
                since = f"?since={quote('-'.join(map(str, account.place)))}"
            with contextlib.suppress(*LOST, AssertionError):
                async with self.crowd.connect(f"/listen/{account.channel}{since}") as wire:
                    await self.read(account, wire, chance)
            await asyncio.sleep(chance.uniform(0, 0.5))

    async def read(self, account: Account, wire: Wire, chance: random.Random) -> None:
        ends = time.monotonic() + chance.uniform(1, 20)
        is_begun = False
        while self.is_over or time.monotonic() < ends:
            try:
                frame = await asyncio.wait_for(wire.next_frame(), 1)
            except (asyncio.TimeoutError, TimeoutError):
                continue
            if frame.opcode != TEXT:
                break
            place, gap, *text = frame.payload.decode().split(" ", 2)
            if is_begun:
                account.take(read_place(place), text[0], is_after_gap=gap == "gap")
            else:
                is_begun = True
                account.begin(read_place(place), is_whole=gap == "whole")
        if chance.random() < 0.5:
            wire.reset()

    async def publish(self, number: int, chance: random.Random) -> None:
        """Publish by HTTP, by a socket, or from the command line."""
        way = (self.post, self.send, self.post)[number % 3] if number > 3 else self.command
        count = 0
        while not self.is_over:
            channel, count = chance.choice(CHANNELS), count + 1
            with contextlib.suppress(*LOST, AssertionError):
                place = await way(channel, f"{number}.{count}")
                self.published["taken" if place else "not taken"] += 1
            await asyncio.sleep(chance.uniform(0, 0.1))

    async def publish_last(self) -> None:
        """Have the last word on each channel."""
        for channel in CHANNELS:
            place = None
            while place is None:
                with contextlib.suppress(*LOST, AssertionError):
                    place = await self.post(channel, f"end of {channel} {time.monotonic()}")
            self.ends[channel] = place

    async def post(self, channel: str, text: str) -> Place | None:
        answer = await self.crowd.ask(f"/publish/{channel}", "POST", text.encode())
        return read_place(answer.decode())

    async def send(self, channel: str, text: str) -> Place | None:
        async with self.crowd.connect("/publish") as wire:
            await wire.send(encode_frame(TEXT, f"{channel} {text}".encode()))
            frame = await wire.read_frame()
            # Its worker may be replaced meanwhile.
            assert frame.opcode == TEXT
            place = read_place(frame.payload.decode())
            await wire.send(encode_close(1000))
        return place

    async def command(self, channel: str, text: str) -> Place | None:
        process = await asyncio.create_subprocess_exec(
            *("flask", "--app", "listeners", "ws", "publish", channel, text),
            cwd=APPS,
            env={**os.environ, "BROKER_URL": self.broker.url},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await process.wait()
        return None


def make_redis(folder: Path) -> BrokerServer:
    return RedisServer(folder)


def make_postgres(folder: Path) -> BrokerServer:
    return PostgresServer()


@pytest.fixture(params=[make_redis, make_postgres], ids=["redis", "postgresql"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerServer]:
    broker: BrokerServer = request.param(tmp_path)
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


def test_nothing_is_lost_doubled_or_reordered(broker: BrokerServer, tmp_path: Path) -> None:
    """And every gap is told."""
    with running(SETUP, tmp_path, broker.url) as server:
        run = Run(server, broker)
        asyncio.run(run.run())
    counts: Counter[str] = sum((account.counts for account in run.accounts), Counter())
    print(dict(counts), dict(run.published))
    faults = [fault for account in run.accounts for fault in account.faults]
    assert not faults, (len(faults), faults[:20])
    late = [account for account in run.accounts if account.place != run.ends[account.channel]]
    assert not late, [
        (account.channel, account.place, run.ends[account.channel]) for account in late
    ][:5]
