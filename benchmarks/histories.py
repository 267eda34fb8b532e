"""What a history costs: publications a second with one and without, and clients that come back.

python -m benchmarks.histories
python -m benchmarks.histories --url redis://localhost:6379 --clients 10000

Two apps, one of which keeps a history, take turns in one process. Its subscribers are connections
over socket pairs, which another process reads. A turn ends when all of them have been sent all.
With memory:// the clock is the processor time of this process, whoever else is at work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import select
import signal
import socket
import statistics
import time
from collections.abc import Iterator

from flask import Flask

from benchmarks.report import table
from flask_ws import Sock
from flask_ws.channels.channels import Channels
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.transport import PlainTransport
from flask_ws.loop.flusher import Flusher
from flask_ws.protocol.protocol import Protocol

CHANNEL = "news"
MESSAGE = "x" * 64
#: What a client has missed that comes back.
MISSED = 10
#: Connections that one process reads.
MANY = 1000
flusher = Flusher(threads)
OPTIONS = {"close_timeout": 5.0, "max_queue": 16, "max_outbox": 2**30}


class Subject:
    """An app, with a history or without."""

    def __init__(self, url: str, *, kept: bool) -> None:
        self.app = Flask("benchmark")
        self.app.config["SOCK_BROKER_URL"] = url
        self.app.config["SOCK_BROKER_PREFIX"] = f"benchmark{os.getpid()}{kept}:"
        if kept:
            self.app.config["SOCK_HISTORY"] = {CHANNEL: (100, 300)}
        self.sock = Sock(self.app)
        self.connections: list[Connection] = []
        self.clock = time.process_time if url == "memory://" else time.perf_counter

    @property
    def channels(self) -> Channels:
        channels: Channels = self.app.extensions["flask_ws"].channels
        return channels

    def publish(self, count: int) -> float:
        """Return the publications a second, to the end of their deliveries."""
        target = [each.sender.messages_sent + count for each in self.connections]
        with self.app.app_context():
            start = self.clock()
            for _ in range(count):
                self.sock.publish(CHANNEL, MESSAGE)
            pairs = list(zip(self.connections, target, strict=True))
            while any(
                each.sender.messages_sent < number or each.sender.waiting for each, number in pairs
            ):
                time.sleep(0)
            return count / (self.clock() - start)


@contextlib.contextmanager
def opened(count: int) -> Iterator[list[Connection]]:
    """Connections whose other ends are read by processes of their own."""
    readers: list[int] = []
    ends: list[socket.socket] = []
    try:
        while len(ends) < count:
            # A process has but so many descriptors.
            pairs = [socket.socketpair() for _ in range(min(MANY, count - len(ends)))]
            ends += [ours for _, ours in pairs]
            readers.append(os.fork())
            if not readers[-1]:
                read_all([theirs for theirs, _ in pairs])
            for theirs, _ in pairs:
                theirs.close()
        yield [make_connection(ours) for ours in ends]
    finally:
        for reader in readers:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
        for ours in ends:
            ours.close()


def make_connection(sock: socket.socket) -> Connection:
    transport = PlainTransport(sock, threads, sock.close)
    connection = Connection(transport, Protocol(), concurrency=threads, **OPTIONS)
    connection.sender.when_blocked = flusher.watch
    return connection


def read_all(socks: list[socket.socket]) -> None:
    poller = select.epoll()
    for sock in socks:
        poller.register(sock.fileno(), select.EPOLLIN)
    while True:
        for fd, _ in poller.poll():
            if not os.read(fd, 2**18):
                poller.unregister(fd)


def measure_publishing(url: str, subscribers: int, turns: int, count: int) -> list[str]:
    """Measure turn by turn; return a row."""
    without, kept = Subject(url, kept=False), Subject(url, kept=True)
    with opened(2 * subscribers) as connections:
        for number, connection in enumerate(connections):
            subject = (without, kept)[number % 2]
            subject.connections.append(connection)
            subject.channels.subscribe(connection, CHANNEL, limit=1)
        for subject in (without, kept):
            subject.publish(count)
        results = [(without.publish(count), kept.publish(count)) for _ in range(turns)]
        for subject in (without, kept):
            subject.channels.close()
    ratios = statistics.quantiles([after / before for before, after in results], n=4)
    before, after = (statistics.median(column) for column in zip(*results, strict=True))
    low, middle, high = ratios
    return [
        f"{subscribers:,}",
        f"{before:,.0f}",
        f"{after:,.0f}",
        f"{middle:.2f}",
        f"{low:.2f}-{high:.2f}",
    ]


def measure_return(url: str, clients: int) -> list[str]:
    """Have many clients come back at once, and as many come; return a row."""
    subject = Subject(url, kept=True)
    channels, seconds = subject.channels, {}
    with subject.app.app_context():
        since = subject.sock.publish(CHANNEL, MESSAGE).position
        subject.publish(MISSED)
    for place in (None, since):
        with opened(clients) as connections:
            start = subject.clock()
            for connection in connections:
                channels.subscribe(connection, CHANNEL, limit=1, since=place)
            while place and any(each.sender.messages_sent < MISSED for each in connections):
                time.sleep(0)
            seconds[place] = subject.clock() - start
            for connection in connections:
                channels.forget(connection)
    channels.close()
    return [
        f"{clients:,}",
        f"{clients / seconds[None]:,.0f}",
        f"{clients / seconds[since]:,.0f}",
        f"{seconds[None] / seconds[since]:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="memory://", help="the broker")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--clients", type=int, default=1000, help="those who come back")
    parser.add_argument("--subscribers", type=int, nargs="*", default=[0, 1, 100])
    arguments = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"Publications a second, {arguments.url}\n")
    rows = [
        measure_publishing(arguments.url, number, arguments.turns, 300 if number < 100 else 30)
        for number in arguments.subscribers
    ]
    print(table(["subscribers", "without", "with a history", "ratio", "half of turns"], rows))
    print(f"\nClients a second that subscribe, and that come back to {MISSED} messages\n")
    row = measure_return(arguments.url, arguments.clients)
    print(table(["clients", "subscribe", "come back", "ratio"], [row]))


if __name__ == "__main__":
    main()
