"""Many connections echoing small messages: each sends the next one when the last is back."""

from __future__ import annotations

import itertools
import random
import select
import time

from benchmarks.loads import Poller, Result, Target, measure
from benchmarks.wire import BINARY, WrongReply, client_frame, connect, server_frame


def messages(size: int, count: int, in_flight: int, seed: int) -> list[tuple[bytes, bytes]]:
    """Requests, and the exact bytes that must come back; no two in a row are the same."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        payloads = [rng.randbytes(size) for _ in range(in_flight)]
        request = b"".join(client_frame(BINARY, p, mask=rng.randbytes(4)) for p in payloads)
        pairs.append((request, b"".join(server_frame(BINARY, p) for p in payloads)))
    return pairs


def run(
    target: Target,
    *,
    connections: int = 50,
    size: int = 32,
    seconds: float = 2.0,
    warm_up: float = 0.5,
    in_flight: int = 1,
) -> Result:
    poller = Poller()
    opened = [connect(target.port, target.path) for _ in range(connections)]
    table_size = max(each.sock.fileno() for each in opened) + 1
    # Lists by file descriptor: the quickest lookup there is in the loop below.
    receive = [opened[0].sock.recv] * table_size
    send = [opened[0].sock.send] * table_size
    turns = [itertools.cycle([(b"", b"")])] * table_size
    expected = [b""] * table_size
    sent_at = [0.0] * table_size

    for number, each in enumerate(opened):
        fd = each.sock.fileno()
        each.sock.setblocking(False)
        receive[fd], send[fd] = each.sock.recv, each.sock.send
        turns[fd] = itertools.cycle(messages(size, 8, in_flight, number))
        poller.register(fd, select.EPOLLIN)

    def rest(fd: int, data: bytes) -> None:
        """A reply that came in pieces, or that is wrong."""
        if data and expected[fd].startswith(data):
            expected[fd] = expected[fd][len(data) :]
        else:
            raise WrongReply(f"expected {expected[fd][:40]!r}, got {data[:40]!r}")

    latencies: list[float] = []
    clock = time.perf_counter

    def drive(until: float) -> None:
        add = latencies.append
        now = clock()
        while now < until:
            ready = poller.wait()
            now = clock()
            for fd, _ in ready:
                data = receive[fd](65536)
                if data != expected[fd]:
                    rest(fd, data)
                    continue
                add(now - sent_at[fd])
                request, expected[fd] = next(turns[fd])
                sent_at[fd] = now
                send[fd](request)

    start = clock()
    for each in opened:
        fd = each.sock.fileno()
        request, expected[fd] = next(turns[fd])
        sent_at[fd] = start
        send[fd](request)
    result = measure(
        target, poller, drive, latencies, seconds=seconds, warm_up=warm_up, each=in_flight
    )
    for each in opened:
        each.close()
    return result
