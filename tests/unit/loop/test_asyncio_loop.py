"""The asyncio loop of a process: there is one."""

from __future__ import annotations

import pytest

from flask_ws.loop import asyncio_loop as module
from flask_ws.loop.asyncio_loop import NAME, AsyncioLoop, asyncio_loop
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
