"""Memory and threads of connections that do nothing, and what the server does meanwhile.

With `chatting`, a share of them then sends a message now and then, as people do; the times of
their echoes stand next to those of a lone connection, taken on the same server before.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from benchmarks.loads import Result, Target, percentile
from benchmarks.machine import Meter, process_tree, resident_bytes, thread_count
from benchmarks.wire import BINARY, PING, PONG, Connection, WrongReply, client_frame, connect

MESSAGE = b"hello, server"
REQUEST = client_frame(BINARY, MESSAGE)
#: What comes of a server's keepalive; without a ping it means nothing, and is allowed.
UNASKED_PONG = client_frame(PONG, b"")


class Crowd:
    """The connections that wait. Each answers pings, as any client does: else servers end it."""

    #: So many are opened, or used, one after the other, before all are looked at.
    OFTEN = 100

    def __init__(self) -> None:
        self._poller = select.epoll()
        self._by_fd: dict[int, Connection] = {}

    def add(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        self._by_fd[fd] = connection
        self._poller.register(fd, select.EPOLLIN)
        if len(self._by_fd) % self.OFTEN == 0:
            self.tend()

    def tend(self, seconds: float = 0.0) -> None:
        """Answer pings; for so long."""
        end = time.perf_counter() + seconds
        left = seconds
        while True:
            for fd in self.wait(left):
                self.answer(fd)
            left = end - time.perf_counter()
            if left <= 0:
                return

    def wait(self, seconds: float) -> list[int]:
        """The descriptors of those for which something has come, after so long at most."""
        return [fd for fd, _ in self._poller.poll(seconds, 1024)]

    def answer(self, fd: int) -> None:
        """Answer the ping that has come: nothing else does, unasked."""
        connection = self._by_fd[fd]
        first, payload = connection.receive_frame()
        if first != 0x80 | PING:
            raise WrongReply(f"expected a ping, got {first:#x} {payload[:40]!r}")
        connection.sock.sendall(client_frame(PONG, payload))


def paced(
    crowd: Crowd, connections: list[Connection], seconds: float, each_per_second: float
) -> list[float]:
    """Times of echoes that are sent at even intervals, whether or not the last one is back.

    The others of the crowd are silent meanwhile.
    """
    by_fd = {connection.sock.fileno(): connection for connection in connections}
    sent_at: dict[int, float] = {}
    times: list[float] = []
    interval = 1 / (len(connections) * each_per_second)
    clock = time.perf_counter
    start = clock()
    due, turn = start, 0
    end = start + seconds
    give_up = end + 5.0
    while True:
        now = clock()
        if now < end:
            while due <= now:
                connection = connections[turn % len(connections)]
                turn += 1
                due += interval
                fd = connection.sock.fileno()
                # Still waiting for its last echo: it skips a turn, and that echo's time tells.
                if fd not in sent_at:
                    sent_at[fd] = clock()
                    connection.sock.sendall(REQUEST)
        elif not sent_at:
            return times
        elif now > give_up:
            raise WrongReply(f"{len(sent_at)} echoes never came")
        for fd in crowd.wait(max(0.0, min(due - clock(), 0.1))):
            if fd in sent_at:
                receive(by_fd[fd])
                times.append(clock() - sent_at.pop(fd))
            else:
                crowd.answer(fd)


def settled_memory(pids: list[int], pause: Callable[[float], object]) -> int:
    """Resident bytes, once two readings in a row agree."""
    last = resident_bytes(pids)
    for _ in range(20):
        pause(0.2)
        current = resident_bytes(pids)
        if abs(current - last) < 65536:
            return current
        last = current
    return last


def receive(connection: Connection) -> None:
    if connection.receive_message() != MESSAGE:
        raise WrongReply("the echo differs from what was sent")


def echo(connection: Connection) -> None:
    connection.sock.sendall(REQUEST)
    receive(connection)


def run(
    target: Target,
    *,
    connections: int = 1000,
    warm_up: int = 20,
    idle_seconds: float = 1.0,
    chatting: float = 0.0,
    chat_seconds: float = 3.0,
) -> Result:
    pids = process_tree(target.pid)
    crowd = Crowd()

    def open_some(number: int) -> list[Connection]:
        opened = []
        for _ in range(number):
            opened.append(connect(target.port, target.path))
            crowd.add(opened[-1])
        return opened

    # A few connections first, so that what is loaded once is not counted for each.
    first = open_some(warm_up)
    for each in first:
        echo(each)
    lone = sorted(paced(crowd, first[:1], 2.0, 500)) if chatting else []
    memory, threads = settled_memory(pids, crowd.tend), thread_count(pids)

    started = time.perf_counter()
    opened = open_some(connections)
    opening = time.perf_counter() - started
    grown = settled_memory(pids, crowd.tend) - memory
    more_threads = thread_count(pids) - threads

    meter = Meter(target.pid)
    crowd.tend(idle_seconds)
    usage = meter.stop()
    result = {
        "value": grown / connections / 1024,
        "threads": more_threads / connections,
        "process_threads": float(thread_count(pids)),
        "opened_per_second": connections / opening,
        **usage.as_result(),
    }
    if chatting:
        some = opened[:: max(1, round(1 / chatting))]
        times = sorted(paced(crowd, some, chat_seconds, 5))
        result |= {"p50": percentile(times, 50), "p99": percentile(times, 99)}
        result |= {"lone_p99": percentile(lone, 99)}
    # Each of them is alive; its memory once it has been used, and a keepalive has been there.
    for number, each in enumerate(opened):
        if number % crowd.OFTEN == 0:
            crowd.tend()
        echo(each)
        each.sock.sendall(UNASKED_PONG)
    result["used"] = (settled_memory(pids, crowd.tend) - memory) / connections / 1024
    for each in [*first, *opened]:
        each.close()
    return result
