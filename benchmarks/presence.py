"""What it costs to know who is there: a room with thousands of members.

    python -m benchmarks.presence
    python -m benchmarks.presence --url redis://localhost:6379 --members 10000

Two apps with one broker are two processes, as far as the broker sees: the members join in one, and
somebody watches in the other. There are no clients, so what is measured is flask-ws and the broker.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.report import table
from flask_ws.channels.channels import Channels
from flask_ws.channels.opening import close_brokers
from flask_ws.concurrency import threads
from flask_ws.presence.entries import make_entry
from flask_ws.protocol.shared import SharedMessage

CHANNEL = "room"
PATIENCE = 60.0


class Connection:
    """As much of a connection as it takes to be a member, and to watch."""

    label = "a connection"
    concurrency = threads
    home = None

    def __init__(self) -> None:
        self.sender = self
        self.messages = self.size = 0

    def check_connected(self) -> None:
        """Do nothing: it is open."""

    def send_shared(self, message: SharedMessage) -> bool:
        """Count a message."""
        self.messages += 1
        self.size += len(message.payload)
        return True

    queue_shared = send_shared

    def flush(self) -> None:
        """Do nothing: nothing waits."""


def join(channels: Channels, number: int) -> Any:
    """Have somebody join."""
    connection: Any = Connection()
    data = make_entry(str(number), {"name": f"user {number}"}, json.dumps, 1024)
    channels.attendance.join(connection, CHANNEL, data, limit=1)
    return connection


def watch(channels: Channels) -> Any:
    """Have somebody watch."""
    connection: Any = Connection()
    channels.watch(connection, CHANNEL, limit=1)
    return connection


def timed(function: Callable[[], object]) -> float:
    """Return the milliseconds that something takes."""
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1000


def await_messages(connection: Connection, number: int) -> None:
    """Wait until somebody has been told so much."""
    deadline = time.monotonic() + PATIENCE
    while connection.messages < number and time.monotonic() < deadline:
        time.sleep(0.001)
    assert connection.messages >= number


def ask_redis(url: str) -> Any:
    """Return a client of the broker's server, if that is a Redis."""
    if not url.startswith("redis://"):
        return None
    import redis

    return redis.Redis.from_url(url)


def measure(url: str, members: int) -> list[tuple[str, str]]:
    """Measure; returns what, and how much."""
    here = Channels({"SOCK_BROKER_URL": url})
    there = here if url == "memory://" else Channels({"SOCK_BROKER_URL": url})
    client = ask_redis(url)
    rows: list[tuple[str, str]] = []
    watcher = watch(there)
    latencies: list[float] = []
    people: list[Any] = []
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    sample = max(1, members // 20)
    people.extend(join(here, number) for number in range(sample))
    await_messages(watcher, 1 + sample)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    rows.append(("memory a member, in both processes", f"{held / sample:.0f} bytes"))
    if client is not None:
        client.config_resetstat()
    start = time.perf_counter()
    for number in range(sample, members):
        latencies.append(timed(lambda: people.append(join(here, number))))  # noqa: B023
    took = time.perf_counter() - start
    await_messages(watcher, 1 + members)
    if client is not None:
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        rows.append(("commands a join", f"{calls / (members - sample):.2f}"))
    rows.append(("to join, one after the other", f"{statistics.median(latencies):.3f} ms"))
    rows.append(("joins a second", f"{(members - sample) / took:.0f}"))
    if client is not None:
        (key,) = client.keys("*presence:room*")
        used = client.memory_usage(key, samples=0)
        rows.append(("memory a member, in Redis", f"{used / members:.0f} bytes"))
    reads = [timed(lambda: json.loads(there.attendance.read(CHANNEL))) for _ in range(5)]
    rows.append((f"sock.presence() of {members}", f"{statistics.median(reads):.1f} ms"))
    late: list[Connection] = []
    rows.append(("one more begins to watch", f"{timed(lambda: late.append(watch(there))):.1f} ms"))
    await_messages(late[0], 1)
    rows.append(("what that one is sent", f"{late[0].size / 1024:.0f} KiB"))
    told = watcher.messages
    start = time.perf_counter()
    for person in people:
        here.attendance.leave(person, CHANNEL)
    await_messages(watcher, told + members)
    rows.append(("leaves a second", f"{members / (time.perf_counter() - start):.0f}"))
    return rows


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--url", default="memory://", help="the broker")
    parser.add_argument("--members", type=int, default=10_000, help="members of the room")
    arguments = parser.parse_args()
    try:
        rows = measure(arguments.url, arguments.members)
    finally:
        close_brokers()
    print(table(["", arguments.url], [list(row) for row in rows], words=1))


if __name__ == "__main__":
    main()
