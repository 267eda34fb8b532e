"""Hundreds of people come, refresh their pages and go, while workers and the broker come and go.

It takes its time, so it runs only where it is asked for:

    pytest tests/servers/long_presence.py

``FLASK_WS_PRESENCE_SECONDS`` says for how long, two minutes by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.chaos import LOST, Crowd
from tests.support.chaos import Client as Wire
from tests.support.redis import RedisServer
from tests.support.setups import GUNICORN

from flask_ws.testing import Setup
from flask_ws.testing.suite.process import Server
from flask_ws.testing.suite.raw import PING, PONG, TEXT, encode_close, encode_frame

from .ours import running

SECONDS = float(os.environ.get("FLASK_WS_PRESENCE_SECONDS", "120"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(SECONDS + 240),
]

USERS = 300
WORKERS = 3
WATCHERS = 12
GRACE, LEASE = 3.0, 15.0
#: Seconds that a change may take on its way, on a busy machine.
LATE = 1.0
SETUP = Setup(
    name="gunicorn-rooms",
    command=f"{GUNICORN} --workers {WORKERS} --threads 8 --graceful-timeout 3 rooms:app",
)


class User:
    """Somebody with some tabs, and when she was there."""

    def __init__(self, number: int) -> None:
        self.key = str(number)
        self.chance = random.Random(number)
        self.tabs = 0
        #: When she came, and went, in turns: she is not there at first.
        self.times: list[float] = []

    @property
    def is_there(self) -> bool:
        return len(self.times) % 2 == 1

    def open(self) -> None:
        self.tabs += 1
        if self.tabs == 1:
            self.times.append(time.monotonic())

    def close(self) -> None:
        self.tabs -= 1
        if not self.tabs:
            self.times.append(time.monotonic())

    def was_away(self, start: float, end: float) -> bool:
        """Tell whether she had no tab during all of a time."""
        came = self.times[::2]
        went = [*self.times[1::2], float("inf")][: len(came)]
        return not any(c < end and w > start for c, w in zip(came, went, strict=True))

    def absences(self) -> list[tuple[float, float]]:
        went = self.times[1::2]
        came = [*self.times[2::2], float("inf")][: len(went)]
        return list(zip(went, came, strict=True))


class Watcher:
    """One connection that watches: what it was told, and when."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.began, self.ended = time.monotonic(), float("inf")
        self.present: set[str] | None = None
        self.joined: list[tuple[float, str]] = []
        self.left: list[tuple[float, str]] = []
        self.faults: list[str] = []

    @property
    def is_open(self) -> bool:
        return self.ended == float("inf")

    def take(self, event: dict[str, Any]) -> None:
        now, kind, key = time.monotonic(), event["event"], event.get("key")
        if self.present is None or key is None:
            if self.present is not None or kind != "state":
                self.faults.append(f"{kind} {key} in the wrong place")
            self.present = set(event.get("members", ()))
        elif kind == "join":
            if key in self.present:
                self.faults.append(f"{key} joined twice")
            self.present.add(key)
            self.joined.append((now, key))
        elif kind == "leave":
            if key not in self.present:
                self.faults.append(f"{key} left twice")
            self.present.discard(key)
            self.left.append((now, key))
        else:
            self.faults.append(f"{kind} {key}: nothing has changed")


class Run:
    """One run: the people, those who watch, and what happens to the server and to Redis."""

    def __init__(self, server: Server, broker: RedisServer) -> None:
        self.server, self.broker = server, broker
        self.began = self.ended = 0.0
        self.crowd = Crowd(server, SECONDS)
        self.users = [User(number) for number in range(USERS)]
        self.watchers: list[Watcher] = []
        self.counts: Counter[str] = Counter()
        self.is_over = False
        #: When leaves may be told late, or not at all.
        self.troubles: list[tuple[float, float]] = []
        self.answers: list[dict[str, Any]] = []
        self.there: set[str] = set()

    async def run(self) -> None:
        self.began = time.monotonic()
        people = [asyncio.create_task(self.live(user)) for user in self.users]
        watching = [asyncio.create_task(self.watch()) for _ in range(WATCHERS)]
        await self.trouble()
        self.is_over = True
        await asyncio.sleep(LEASE + 5)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(self.answers) < WORKERS:
            answer = await self.ask()
            if answer["pid"] not in [each["pid"] for each in self.answers]:
                self.answers.append(answer)
        self.there = {user.key for user in self.users if user.is_there}
        self.ended = time.monotonic()
        for task in (*people, *watching):
            task.cancel()
        await asyncio.gather(*people, *watching, return_exceptions=True)

    async def trouble(self) -> None:
        """A worker is killed; Redis is stopped for long, and for a moment; another is killed."""
        await asyncio.sleep(SECONDS / 6)
        self.kill_worker()
        await asyncio.sleep(SECONDS / 4)
        await self.stop_redis(SECONDS / 6)
        await asyncio.sleep(SECONDS / 6)
        await self.stop_redis(1)
        await asyncio.sleep(SECONDS / 12)
        self.kill_worker()
        await asyncio.sleep(SECONDS / 6)

    async def stop_redis(self, seconds: float) -> None:
        began = time.monotonic()
        self.broker.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self.broker.signal(signal.SIGCONT)
        self.troubles.append((began - LATE, time.monotonic() + LEASE))

    def kill_worker(self) -> None:
        now = time.monotonic()
        pid = next(watcher.pid for watcher in self.watchers if watcher.is_open)
        os.kill(pid, signal.SIGKILL)
        self.troubles.append((now - GRACE - LATE, now + LEASE))
        self.counts["killed workers"] += 1

    # People

    async def live(self, user: User) -> None:
        """Have one to three tabs for a while, and go for a while; in the end, for ever."""
        chance = user.chance
        while True:
            tabs = [asyncio.create_task(self.tab(user)) for _ in range(chance.randint(1, 3))]
            await asyncio.sleep(chance.uniform(2, 30))
            if self.is_over:
                break
            for tab in tabs:
                tab.cancel()
            await asyncio.gather(*tabs, return_exceptions=True)
            self.counts["departures"] += 1
            await asyncio.sleep(chance.uniform(0.5, 20))
            if self.is_over:
                break
        try:
            await asyncio.Event().wait()
        finally:
            for tab in tabs:
                tab.cancel()

    async def tab(self, user: User) -> None:
        """Be connected, and refresh the page now and then."""
        chance = user.chance
        while True:
            with contextlib.suppress(*LOST, AssertionError):
                async with self.crowd.connect(f"/join/{user.key}") as wire:
                    await asyncio.wait_for(self.read(wire), 20)
                    user.open()
                    try:
                        await self.stay(wire, chance.uniform(1, 12))
                    finally:
                        user.close()
                    self.counts["refreshes"] += 1
                    if chance.random() < 0.5:
                        wire.reset()
                    else:
                        await wire.send(encode_close(1001))
            # Soon enough.
            await asyncio.sleep(chance.uniform(0.05, 1))

    async def stay(self, wire: Wire, seconds: float) -> None:
        """Be there for some seconds; at the end of the run, for ever."""
        ends = time.monotonic() + seconds
        while self.is_over or time.monotonic() < ends:
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self.read(wire), 0.5)

    async def read(self, wire: Wire) -> str:
        """Read the next message, and answer pings."""
        while True:
            frame = await wire.next_frame()
            if frame.opcode == PING:
                await wire.send(encode_frame(PONG, frame.payload))
            elif frame.opcode == TEXT:
                return frame.payload.decode()
            else:
                raise ConnectionError

    # Those who look

    async def watch(self) -> None:
        while True:
            watcher = None
            with contextlib.suppress(*LOST, AssertionError):
                async with self.crowd.connect("/watch") as wire:
                    watcher = Watcher(int(await self.read(wire)))
                    self.watchers.append(watcher)
                    while True:
                        watcher.take(json.loads(await self.read(wire)))
            if watcher is not None:
                watcher.ended = time.monotonic()
            await asyncio.sleep(0.5)

    async def ask(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.crowd.ask("/presence"))
        return found

    # What came of it

    def find_flaps(self) -> list[str]:
        """Find those who were said to have left, and had not."""
        users = {user.key: user for user in self.users}
        return [
            f"{key} was said to have left at {when:.2f} (troubles: {self.troubles}): "
            f"{[round(each - when, 2) for each in users[key].times if -20 < each - when < 20]}"
            for watcher in self.watchers
            for when, key in watcher.left
            if not users[key].was_away(when - GRACE + LATE, when - LATE)
        ]

    def find_untold(self) -> list[str]:
        """Find those who were away for long, and of whom that was not said once."""
        found = []
        for watcher in self.watchers:
            for user in self.users:
                for went, came in user.absences():
                    told = [
                        when for when, key in watcher.left if key == user.key and went < when < came
                    ]
                    due = went + GRACE + 2 * LATE
                    is_due = due < min(came, watcher.ended, self.ended) and not any(
                        start < due and went < end for start, end in self.troubles
                    )
                    if went > watcher.began and (len(told) > 1 or (is_due and not told)):
                        found.append(f"{user.key} was away from {went:.2f} to {came:.2f}: {told}")
                    self.counts["leaves that were due"] += is_due and went > watcher.began
        return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path).running() as broker:
        yield broker


def test_all_agree_on_who_is_there(broker: RedisServer, tmp_path: Path) -> None:
    """Nobody flaps who refreshes a page, and every leave is told once."""
    with running(SETUP, tmp_path, broker.url) as server:
        run = Run(server, broker)
        asyncio.run(run.run())
    last = [watcher for watcher in run.watchers if watcher.is_open]
    faults = [fault for watcher in run.watchers for fault in watcher.faults]
    flaps, untold = run.find_flaps(), run.find_untold()
    print(
        dict(run.counts),
        f"watchers: {len(last)} of {len(run.watchers)}",
        f"joins told: {sum(len(watcher.joined) for watcher in run.watchers)}",
        f"leaves told: {sum(len(watcher.left) for watcher in run.watchers)}",
    )
    assert not faults, (len(faults), faults[:20])
    assert 0 < len(run.there) < USERS
    assert len(run.answers) == WORKERS
    for answer in run.answers:
        assert set(answer["present"]) == run.there
        assert all(infos == [{"name": f"user {key}"}] for key, infos in answer["present"].items())
    assert len(last) == WATCHERS
    for watcher in last:
        assert watcher.present == run.there
    assert not flaps, (len(flaps), flaps[:20])
    assert not untold, (len(untold), untold[:20])
    assert run.counts["leaves that were due"]
