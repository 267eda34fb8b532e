"""Calling what may wait for a broker, off the asyncio loop that the caller runs on."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..process import PerProcess

__all__ = ["call_beside"]

T = TypeVar("T")

NAME = "flask_ws.Broker"
#: Threads that wait for brokers, at most. Not asyncio's own, of which there are few: while a broker
#: does not answer, the app's calls of ``asyncio.to_thread()`` would wait for it as well.
MOST = 8

_executors: PerProcess[str, ThreadPoolExecutor] = PerProcess()


def _make_executor() -> ThreadPoolExecutor:
    # Its threads start as they are needed.
    return ThreadPoolExecutor(MOST, NAME)


async def call_beside(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function on a thread, in the caller's context; other tasks run meanwhile.

    When the task is cancelled, the call goes on.

    :param function: the function, which may wait.
    """
    executor = _executors.get(NAME, _make_executor)
    call = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(executor, call)
