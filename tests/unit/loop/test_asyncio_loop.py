"""The asyncio loop of a process: there is one."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import Context, ContextVar
from unittest import mock

import pytest
from tests.support.waiting import PATIENCE
from tests.unit.test_process import fork, in_child, needs_fork

from flask_ws.loop import asyncio_loop as module
from flask_ws.loop.asyncio_loop import NAME, AsyncioLoop, HubSelector, asyncio_loop
from flask_ws.process import PerProcess


def test_of_two_that_are_made_at_once_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: PerProcess[str, AsyncioLoop] = PerProcess()
    first = AsyncioLoop(uvloop=False)
    made: list[AsyncioLoop] = []

    def make(*, uvloop: bool) -> AsyncioLoop:
        # Another thread is faster.
        loops.get(NAME, lambda: first)
        made.append(AsyncioLoop(uvloop=uvloop))
        return made[0]

    monkeypatch.setattr(module, "_loops", loops)
    monkeypatch.setattr(module, "AsyncioLoop", make)
    assert asyncio_loop(uvloop=False) is first
    assert made[0].loop.is_closed()
    assert not first.loop.is_closed()
    first.loop.close()


@needs_fork
@fork
def test_child_of_a_fork_has_a_loop_of_its_own() -> None:
    """Though the parent's has run, which the child has not got."""
    parents = asyncio_loop(uvloop=False)
    assert has_run(parents)

    def look() -> bool:
        own = asyncio_loop(uvloop=False)
        return own is not parents and has_run(own)

    assert in_child(look)
    assert has_run(parents)


def has_run(loop: AsyncioLoop) -> bool:
    """Whether something runs on a loop."""
    ran = threading.Event()

    async def run() -> None:
        ran.set()

    loop.start(run, Context(), "run")
    return ran.wait(PATIENCE)


def test_task_has_the_name_and_the_very_context_that_it_was_given() -> None:
    """A copy of that is more memory, of each connection that is idle."""
    loop, variable = AsyncioLoop(uvloop=False), ContextVar("variable", default="")
    ran, context, names = threading.Event(), Context(), list[str]()

    async def run() -> None:
        variable.set("by the task")
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        ran.set()

    loop.start(run, context, "feed")
    assert ran.wait(PATIENCE)
    loop.end()
    assert names == ["feed"]
    if sys.version_info >= (3, 11):
        assert context[variable] == "by the task"


def test_loop_of_another_greenlet_is_the_running_one_while_this_one_waits() -> None:
    """As Flask runs one for each request to an async view."""
    mine, other = asyncio.SelectorEventLoop(), asyncio.SelectorEventLoop()
    selector, seen = HubSelector(), list[object]()

    class Hub:
        """Runs another greenlet, which leaves its own loop the running one when it waits."""

        def __init__(self, leaves: asyncio.AbstractEventLoop | None) -> None:
            self.leaves = leaves

        def select(self, timeout: float | None) -> None:
            seen.append(asyncio._get_running_loop())
            asyncio._set_running_loop(self.leaves)

    def wait(leaves: asyncio.AbstractEventLoop | None) -> None:
        selector._selector = Hub(leaves)  # type: ignore[assignment]
        selector.select()
        assert asyncio._get_running_loop() is mine

    selector.close()
    asyncio._set_running_loop(mine)
    try:
        with mock.patch.object(other, "is_running", return_value=True):
            wait(other)
            wait(other)
        # It has ended while a handler of mine called what waits as greenlets do.
        wait(None)
    finally:
        asyncio._set_running_loop(None)
        mine.close()
        other.close()
    assert seen == [None, other, None]
