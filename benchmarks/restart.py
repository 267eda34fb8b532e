"""A restart under thousands of clients: how many come back at once, and what HTTP notices.

    uv run python -m benchmarks.restart
    uv run python -m benchmarks.restart --clients 500 --drain 5

Gunicorn is told to reload (HUP) while the clients are connected. Each is a page with the script of
"Deploying": after its n-th failure in a row it waits for a random time of up to 2**n seconds, and
30 at most. A closed connection is the first failure.

Before that, the same clients come back without a restart: they leave by themselves, as many a
second as the server will say goodbye to. What HTTP notices then is what handshakes cost, and the
load generator; what it notices beyond that is the restart's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.loads import percentile
from benchmarks.serving import ROOT, START_SECONDS, Failed, Place, free_port
from benchmarks.wire import HOST

REQUEST = (
    "GET /feed HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: A close frame with 1001, masked with zeros, and a pong.
CLOSE = b"\x88\x82\0\0\0\0\x03\xe9"
PONG = b"\x8a\x80\0\0\0\0"
#: Clients that are opened in a second, before the restart.
OPENING = 400
#: Seconds between two requests by HTTP, and of the measurement before the restart.
HTTP_INTERVAL = 0.02
HTTP_SECONDS = 16.0
#: Seconds without handshakes before the restart.
REST_SECONDS = 3.0
#: The goals: of the peak to the even rate, of HTTP's p99 to what it was, and seconds that a client
#: is away beyond those that it waits.
PEAK_GOAL = 1.5
HTTP_GOAL = 2.0
AWAY_GOAL = 1.0


@dataclass
class Record:
    """What the clients have seen since the restart; times of :func:`time.monotonic`."""

    told: list[float] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    #: Seconds that each was away, beyond those that it waited by its own choice.
    beyond: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget what was before the restart."""
        for seen in (self.told, self.attempts, self.opened, self.beyond, self.failed, self.codes):
            seen.clear()


class Client(asyncio.Protocol):
    """A page, for as long as the benchmark runs."""

    def __init__(self, port: int, record: Record) -> None:
        self._port = port
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._failures = 0
        self._told_at = 0.0
        self._waited = 0.0
        self._connecting: asyncio.Task[None] | None = None
        self.open = False

    def start(self) -> None:
        """Begin to connect."""
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        self._record.attempts.append(time.monotonic())
        self._data = b""
        try:
            await self._loop.create_connection(lambda: self, HOST, self._port)
        except OSError as error:
            self._record.failed[type(error).__name__] += 1
            self._try_again()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(REQUEST.format(host=f"{HOST}:{self._port}").encode())

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._data += data
        if not self.open:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._record.failed[head.split(b" ")[1].decode()] += 1
                self._transport.abort()
                return
            self._data = rest
            self._begin()
        # The server's frames are short here, and not masked.
        while len(self._data) >= 2 and len(self._data) >= 2 + self._data[1]:
            opcode, payload = self._data[0] & 15, self._data[2 : 2 + self._data[1]]
            self._data = self._data[2 + self._data[1] :]
            if opcode == 9:
                self._transport.write(PONG)
            elif opcode == 8:
                self._record.codes[int.from_bytes(payload[:2], "big")] += 1
                self._transport.write(CLOSE)
                self._transport.close()

    def leave(self) -> None:
        """Close by itself, to come back as after a goodbye."""
        assert self._transport is not None
        self._transport.write(CLOSE)

    def _begin(self) -> None:
        now = time.monotonic()
        self.open, self._failures = True, 0
        self._record.opened.append(now)
        if self._told_at:
            self._record.beyond.append(now - self._told_at - self._waited)
        self._waited = 0.0

    def connection_lost(self, error: Exception | None) -> None:
        if self.open:
            self.open = False
            self._told_at = time.monotonic()
            self._record.told.append(self._told_at)
        self._try_again()

    def _try_again(self) -> None:
        self._failures += 1
        wait = random.random() * min(30, 2**self._failures)
        self._waited += wait
        self._loop.call_later(wait, self.start)


def ask(port: int, ends: Any, latencies: Any) -> None:
    """Time requests by HTTP, in a process of its own, until told to stop."""
    found = []
    while not ends.is_set():
        began = time.monotonic()
        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            pid = int(connection.getresponse().read())
            found.append((began, time.monotonic() - began, pid))
        connection.close()
        ends.wait(max(0.0, began + HTTP_INTERVAL - time.monotonic()))
    latencies.put(found)


def peak(times: list[float], width: float = 1.0) -> int:
    """The most that come within so many seconds."""
    times = sorted(times)
    return max(
        (bisect_right(times, first + width) - number for number, first in enumerate(times)),
        default=0,
    )


@contextlib.contextmanager
def serve(options: argparse.Namespace, place: Place) -> Iterator[tuple[int, int]]:
    """Start Gunicorn; yields its port and its process id."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "-b", f"{HOST}:{port}", "--no-control-socket"),
                *("--workers", str(options.workers), "--threads", "4", "--backlog", "4096"),
                *("--graceful-timeout", str(round(options.drain) + 10), "--timeout", "120"),
                "benchmarks.apps.restart_app:app",
            ],
            cwd=ROOT,
            env={**os.environ, "DRAIN": str(options.drain)},
            stdout=log,
            stderr=log,
            preexec_fn=place.prepare(place.server_core),  # noqa: PLW1509
        )
        try:
            try:
                wait_for(port, process)
            except Failed:
                log.seek(0)
                print(log.read().decode(), file=sys.stderr)
                raise
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(options.drain + 20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            connection.getresponse().read()
            return
        time.sleep(0.1)
    raise Failed("Gunicorn does not answer.")


@dataclass
class Times:
    """When the phases began; times of :func:`time.monotonic`."""

    #: All clients are open, and nothing happens.
    quiet: float = 0.0
    #: Clients leave by themselves.
    leaving: float = 0.0
    #: They are all back, and nothing happens.
    back: float = 0.0
    #: The server is told to restart.
    restart: float = 0.0


async def run(options: argparse.Namespace, port: int, pid: int) -> tuple[Record, Times]:
    """Open the clients, have them leave, restart the server, and wait until all are back."""
    record, times = Record(), Times()
    clients = [Client(port, record) for _ in range(options.clients)]
    async for client in evenly(clients, options.clients / OPENING):
        client.start()
    await all_open(clients, 60)
    print(f"{options.clients} clients are open.", file=sys.stderr)
    times.quiet = time.monotonic()
    await asyncio.sleep(HTTP_SECONDS)
    times.leaving = time.monotonic()
    async for client in evenly(clients, options.drain):
        client.leave()
    await all_open(clients, 60)
    print("They have left and come back.", file=sys.stderr)
    times.back = time.monotonic()
    await asyncio.sleep(REST_SECONDS)
    record.clear()
    times.restart = time.monotonic()
    os.kill(pid, signal.SIGHUP)
    await until(lambda: len(record.told) >= options.clients, options.drain + 60)
    await all_open(clients, 60)
    return record, times


async def evenly(clients: list[Client], seconds: float) -> AsyncIterator[Client]:
    """Yield one after the other, spread over some time."""
    began = time.monotonic()
    for number, client in enumerate(clients):
        await asyncio.sleep(max(0.0, began + number * seconds / len(clients) - time.monotonic()))
        yield client


async def all_open(clients: list[Client], seconds: float) -> None:
    await until(lambda: all(client.open for client in clients), seconds)


async def until(condition: Callable[[], bool], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise Failed("It takes too long.")
        await asyncio.sleep(0.1)


def report(
    options: argparse.Namespace, record: Record, times: Times, asked: list[tuple[float, float, int]]
) -> bool:
    """Print what was seen; return whether the goals are met."""
    at, even = times.restart, options.clients / options.drain
    handshakes = peak(record.attempts)
    ratio = handshakes / even
    beyond = sorted(record.beyond)
    # Gunicorn's old workers take no requests from the signal on, and the new ones have to start.
    old = {pid for began, _, pid in asked if began < at}
    ready = min(began + seconds for began, seconds, pid in asked if pid not in old)
    phases = {
        "usual": (times.quiet, times.leaving),
        "handshakes alone": (times.leaving, times.back),
        "since restart": (ready, float("inf")),
    }
    seen = {
        name: sorted(seconds for began, seconds, _ in asked if first <= began < last)
        for name, (first, last) in phases.items()
    }
    p99 = {name: percentile(found, 99) for name, found in seen.items()}
    by_second = Counter(int(began - at) for began in record.attempts)
    print(f"{options.clients} clients, SOCK_DRAIN = {options.drain:g}, {options.workers} workers")
    print(f"new workers answer {ready - at:.2f} s after HUP")
    print(f"told:       {min(record.told) - at:.1f} to {max(record.told) - at:.1f} s after HUP,")
    print(f"            by codes {dict(record.codes)}; at most {peak(record.told)} in a second")
    print(f"handshakes: at most {handshakes} in any second, {ratio:.2f} x the even {even:g}")
    print(f"            failed {dict(record.failed)}; each second", end=" ")
    print(*(number for _, number in sorted(by_second.items())))
    print(f"opened:     at most {peak(record.opened)} in any second")
    print(
        f"away:       longer than they waited by at most {beyond[-1]:.3f} s, "
        f"p99 {percentile(beyond, 99):.3f} s"
    )
    for name, found in seen.items():
        print(
            f"HTTP, {name}: p50 {percentile(found, 50) * 1e3:.1f} ms, p99 {p99[name] * 1e3:.1f} ms"
            f" ({p99[name] / p99['usual']:.2f} x), at most {found[-1] * 1e3:.1f} ms"
        )
    http_ratio = p99["since restart"] / p99["usual"]
    return ratio <= PEAK_GOAL and beyond[-1] <= AWAY_GOAL and http_ratio <= HTTP_GOAL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--drain", type=float, default=60.0, help="seconds of SOCK_DRAIN")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--cores", default="", help="of the server and the clients, as in 0,1; any: all of them"
    )
    parser.add_argument("--urgent", action="store_true", help="raise the priority (root only)")
    options = parser.parse_args()
    place = Place.choose(options.cores, options.urgent)
    with serve(options, place) as (port, pid):
        ends, latencies = multiprocessing.Event(), multiprocessing.Queue()
        # Beside the clients: on the server's core it would wait for that.
        place.prepare(place.client_core)()
        asking = multiprocessing.Process(target=ask, args=(port, ends, latencies))
        asking.start()
        try:
            record, times = asyncio.run(run(options, port, pid))
            ends.set()
            found = latencies.get(timeout=60)
        finally:
            ends.set()
            asking.join(60)
        met = report(options, record, times, found)
    print("All goals are met." if met else "A goal is missed.")
    sys.exit(not met)


if __name__ == "__main__":
    main()
