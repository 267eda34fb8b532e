"""What the machine is, and what its processes use. Linux only: all of it is read from /proc."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        for task in Path(f"/proc/{current}/task").iterdir():
            # A thread may end between being listed and being read.
            with contextlib.suppress(FileNotFoundError):
                queue.extend(map(int, (task / "children").read_text().split()))
    return found


def cpu_seconds(pids: list[int]) -> float:
    # The kernel's CPU clock of each process; /proc/PID/stat may be off, as it counts timer ticks.
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def resident_bytes(pids: list[int]) -> int:
    # smaps_rollup counts pages; statm is only near the truth since Linux 6.2.
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def thread_count(pids: list[int]) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids)


def idle_seconds(cores: set[int]) -> float:
    """How long these cores have had nothing to do."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in cores:
            ticks += int(fields[3]) + int(fields[4])
    return ticks / TICKS


def waiting_seconds() -> float:
    """How long this process was ready to run, and something else had its core."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


@dataclass(frozen=True)
class Usage:
    """Shares of one core: the server, this process, and what others took from either."""

    seconds: float
    server_cpu: float
    client_cpu: float
    others_cpu: float

    def as_result(self) -> dict[str, float]:
        found = dataclasses.asdict(self)
        del found["seconds"]
        return found


class Meter:
    """Measures the time from its creation on."""

    def __init__(self, server_pid: int) -> None:
        self._pids = process_tree(server_pid)
        self._cores = os.sched_getaffinity(server_pid)
        self._start = self._read()

    def _read(self) -> tuple[float, ...]:
        return (
            time.perf_counter(),
            cpu_seconds(self._pids),
            time.process_time(),
            waiting_seconds(),
            idle_seconds(self._cores),
        )

    def stop(self) -> Usage:
        now = self._read()
        seconds, server, client, waiting, idle = (
            b - a for a, b in zip(self._start, now, strict=True)
        )
        others = waiting
        # Where the server has its cores to itself, the rest of their time is someone else's.
        if self._cores.isdisjoint(os.sched_getaffinity(0)):
            others += max(0.0, seconds * len(self._cores) - server - idle)
        return Usage(seconds, server / seconds, client / seconds, others / seconds)


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def describe() -> dict[str, str]:
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "CPU": f"{cpu_model()}, {cores} core{'s' if cores > 1 else ''}",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
