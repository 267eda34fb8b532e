"""The loads. Each module is a generator that runs in its own process, on a core of its own.

    python -m benchmarks.loads MODULE OPTIONS

OPTIONS is one JSON object; the result is one JSON object on stdout. `run.py` calls them so.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.machine import Meter, Usage
from benchmarks.wire import WrongReply


@dataclass(frozen=True)
class Target:
    """The server under load."""

    port: int
    path: str
    pid: int


Result = dict[str, float]

#: Seconds without any reply after which a load has failed.
STALLED = 10.0


class Poller:
    """epoll, without sleeping.

    To wake a process on another core is dear, above all on a virtual machine, and it is the server
    that would pay for it, the more often the slower it is. So this asks again and again, and notes
    how long it had nothing to do.
    """

    def __init__(self) -> None:
        epoll = select.epoll()
        self.register, self.unregister, self.modify = epoll.register, epoll.unregister, epoll.modify
        self._poll = epoll.poll
        self.unused = 0.0

    def wait(self) -> list[tuple[int, int]]:
        """The sockets that something has happened to, and what."""
        ready = self._poll(0, 1024)
        if ready:
            return ready
        now = began = time.perf_counter()
        while not ready:
            if now - began > STALLED:
                raise WrongReply(f"no reply for {STALLED:g} s")
            ready = self._poll(0, 1024)
            now = time.perf_counter()
        self.unused += now - began
        return ready

    def shares(self, usage: Usage) -> Result:
        """What the run has used; of this process, the part in which it had something to do."""
        busy = max(0.0, usage.client_cpu - self.unused / usage.seconds)
        return {**usage.as_result(), "client_cpu": busy}


def measure(
    target: Target,
    poller: Poller,
    drive: Callable[[float], object],
    times: list[float],
    *notes: list[Any],
    seconds: float,
    warm_up: float,
    each: int = 1,
) -> Result:
    """Run a load for a while, then measure it.

    :param drive: runs it until a time of :func:`time.perf_counter`.
    :param times: where it notes the seconds that each exchange took.
    :param notes: what else it notes; emptied after the warm-up, as `times` is.
    :param each: how many messages an exchange stands for.
    """
    drive(time.perf_counter() + warm_up)
    for noted in (times, *notes):
        noted.clear()
    poller.unused = 0.0
    meter = Meter(target.pid)
    drive(time.perf_counter() + seconds)
    usage = meter.stop()
    times.sort()
    return {
        "value": len(times) * each / usage.seconds,
        "p50": percentile(times, 50),
        "p99": percentile(times, 99),
        **poller.shares(usage),
    }


def percentile(sorted_values: list[float], percent: float) -> float:
    if not sorted_values:
        return float("nan")
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]
