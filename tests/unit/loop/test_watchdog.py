"""What holds a loop is named in the log, while it does, and nothing else is."""

from __future__ import annotations

import asyncio
import bdb
import importlib.util
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from types import FrameType
from typing import Any

import pytest
from tests.support.waiting import PATIENCE, until

from flask_ws.label import Label
from flask_ws.loop.asyncio_loop import AsyncioLoop
from flask_ws.loop.callbacks import Hold, current_label
from flask_ws.loop.server_loop import ServerLoop
from flask_ws.loop.watchdog import OFTEN, Watchdog

#: Seconds; and those where nothing may hold the loop, on a busy machine neither.
LIMIT, LONG = 0.1, 0.5
#: Of flask-ws's own; and of a server's, whose functions are around all that runs on it.
LOOPS = ["asyncio", "server"]
if importlib.util.find_spec("uvloop"):
    LOOPS += ["uvloop", "server-uvloop"]


class Site:
    """A loop with a watchdog, and the handler of a connection on it."""

    def __init__(self, loop: AsyncioLoop, log: pytest.LogCaptureFixture, limit: float) -> None:
        self.loop = loop
        self.watchdog = Watchdog(loop, limit)
        self._log = log
        self._begun = threading.Event()
        #: Lets what blocks go on.
        self.release = threading.Event()

    def block(self) -> None:
        self.release.wait(PATIENCE)  # the line

    def handle(
        self, handler: Callable[[], Coroutine[Any, Any, None]], *, wait: bool = True
    ) -> None:
        context = Context()
        label = Label("WebSocket 1 /feed", endpoint="blueprint.handler")
        context.run(current_label.set, label)

        async def begin() -> None:
            self.loop.start(handler, context, "handler")
            self.watchdog.start()
            # When this goes on, there is the handler's task.
            await asyncio.sleep(0)
            self._begun.set()

        self.loop.start(begin, Context(), "begin")
        if wait:
            self.wait()

    def wait(self) -> None:
        assert self._begun.wait(PATIENCE)
        until(lambda: not self.loop.is_busy)

    def lines(self) -> list[str]:
        return [each for each in self._log.messages if " has held the " in each]

    def line(self) -> str:
        """What is logged while the loop is held."""
        until(self.lines)
        self.release.set()
        self.wait()
        (line,) = self.lines()
        return line


def run_as_a_server_does(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()


def make_loop(kind: str) -> asyncio.AbstractEventLoop:
    return AsyncioLoop(uvloop="uvloop" in kind).loop


@pytest.fixture(params=[(kind, LIMIT) for kind in LOOPS], ids=LOOPS)
def site(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Site]:
    kind, limit = request.param
    if not kind.startswith("server"):
        own = AsyncioLoop(uvloop=kind == "uvloop")
        yield Site(own, caplog, limit)
        own.end()
        return
    loop = make_loop(kind)
    thread = threading.Thread(target=run_as_a_server_does, args=(loop,))
    thread.start()
    yield Site(ServerLoop(loop), caplog, limit)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_handler_is_named_with_its_line_and_connection(site: Site) -> None:
    async def handler() -> None:
        site.block()

    site.handle(handler, wait=False)
    line = site.line()
    assert line.startswith("WebSocket 1 /feed: handler has held the loop of the async handlers")
    assert "test_watchdog.py:" in line
    assert "in handler: site.block(), and there at" in line
    assert "in block: self.release.wait(PATIENCE)  # the line." in line


@pytest.mark.parametrize("how", ["call_soon", "call_later", "create_task", "add_done_callback"])
def test_what_a_handler_has_started_is_named_with_that(site: Site, how: str) -> None:
    """Though the loop has it from nobody, by the time that it blocks."""

    def tick(*_: object) -> None:
        site.block()

    async def tick_soon() -> None:
        tick()

    async def handler() -> None:
        loop = asyncio.get_running_loop()
        if how == "create_task":
            await asyncio.create_task(tick_soon())
        elif how == "add_done_callback":
            future = loop.create_future()
            future.add_done_callback(tick)
            future.set_result(None)
        elif how == "call_later":
            loop.call_later(0.001, tick)
        else:
            loop.call_soon(tick)
        await asyncio.sleep(0.01)

    site.handle(handler, wait=False)
    name = "tick_soon" if how == "create_task" else "tick"
    assert site.line().startswith(f"WebSocket 1 /feed: {name} (of blueprint.handler) has held ")


def test_each_hold_is_one_warning(site: Site) -> None:
    async def handler() -> None:
        for times in (1, 2):
            until(lambda times=times: len(site.lines()) == times)  # type: ignore[misc]
            # Many looks later.
            threading.Event().wait(2 * LIMIT)
            await asyncio.sleep(0)

    site.handle(handler)
    assert len(site.lines()) == 2


@pytest.mark.parametrize("site", [("asyncio", LONG), ("server", LONG)], indirect=True)
def test_many_tasks_that_have_their_turns_hold_no_loop(site: Site) -> None:
    """Though it answers late: each of them has let go of it."""

    async def work() -> None:
        threading.Event().wait(LONG / 100)

    async def handler() -> None:
        await asyncio.gather(*(work() for _ in range(150)))

    site.handle(handler)
    assert not site.lines()


class Debugger(bdb.Bdb):
    """One that stops at each line, as those do that ask what to do next."""

    def __init__(self, stop: Callable[[], object]) -> None:
        super().__init__()
        self._stop = stop

    def user_line(self, frame: FrameType) -> None:
        self._stop()


@pytest.mark.parametrize("site", [("asyncio", LONG)], indirect=True)
def test_a_debugger_may_stop_in_a_handler(site: Site) -> None:
    looks: list[list[Hold]] = []

    def step() -> None:
        """What somebody looks at, line by line."""

    async def handler() -> None:
        callbacks = site.loop.callbacks
        assert callbacks is not None
        find = callbacks.find

        def look() -> list[Hold]:
            looks.append(find())
            return looks[-1]

        callbacks.find = look  # type: ignore[method-assign]
        Debugger(lambda: until(lambda: len(looks) > OFTEN)).runcall(step)

    site.handle(handler)
    assert len(looks) > OFTEN
    assert not site.lines()


def test_a_loop_that_a_server_has_ended_is_watched_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With handlers on it that have not ended."""
    loop = make_loop("asyncio")
    watched = Site(ServerLoop(loop), caplog, LIMIT)

    async def handler() -> None:
        loop.call_soon(loop.stop)
        await asyncio.Event().wait()

    watched.handle(handler, wait=False)
    loop.run_forever()
    loop.close()
    until(lambda: not watched.watchdog._worker.is_running)
    assert not [each for each in caplog.records if each.levelno > logging.DEBUG]
