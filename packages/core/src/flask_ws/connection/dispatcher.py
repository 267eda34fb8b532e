"""One task for what all connections of messages have to send, on their servers' loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any
from typing import Protocol as Interface

__all__ = ["Dispatcher"]


class Sends(Interface):
    """What has something to send."""

    def send_all(self, task: asyncio.Task[None]) -> Coroutine[Any, Any, None]:
        """Send it; as long as that takes, ``task`` may be cancelled."""


class Dispatcher:
    """Has one after the other send what it has; used on the loop's thread only.

    Most servers take a message at once, and then a task for each would cost more than that. Where
    one has the task wait, another task goes on with the others: nobody waits for a slow peer.

    :param loop: the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Sends] = deque()
        # The task that takes the next; none, while those that there are wait for their servers.
        self._task: asyncio.Task[None] | None = None

    def add(self, sends: Sends) -> None:
        """Have it called soon, by a task."""
        self._waiting.append(sends)
        if self._task is None:
            self._start()

    def _start(self) -> None:
        # Not create_task(): a loop's factory may make tasks that begin before they are returned.
        self._task = asyncio.Task(self._run(), loop=self._loop)

    async def _run(self) -> None:
        waiting, task = self._waiting, self._task
        assert task is not None
        # That comes after the first step of this task, which is the last, unless it has to wait.
        self._loop.call_soon(self._leave, task)
        try:
            while waiting and self._task is task:
                await waiting.popleft().send_all(task)
        finally:
            self._leave(task)

    def _leave(self, task: asyncio.Task[None]) -> None:
        """Let another task go on, if there is more: this one has ended, or waits."""
        if self._task is task:
            self._task = None
            if self._waiting:
                self._start()
