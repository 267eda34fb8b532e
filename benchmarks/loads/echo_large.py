"""A few connections echoing large messages: each sends the next one when the last is back."""

from __future__ import annotations

import random
import select
import time

from benchmarks.loads import Poller, Result, Target, measure
from benchmarks.wire import BINARY, WrongReply, client_frame, connect, server_frame


class Exchange:
    """One connection: the frame on its way out, and the buffer that the reply goes into."""

    def __init__(self, target: Target, pairs: list[tuple[bytes, bytes]]) -> None:
        self.connection = connect(target.port, target.path)
        self.sock = self.connection.sock
        self.sock.setblocking(False)
        self.pairs = pairs
        self.turn = 0
        # Read into a bytearray: comparing one with bytes is memcmp, comparing a memoryview is not.
        self.buffer = bytearray(len(pairs[0][1]))
        self.view = memoryview(self.buffer)
        self.start(time.perf_counter())

    def start(self, now: float) -> None:
        frame, self.expected = self.pairs[self.turn]
        self.turn = (self.turn + 1) % len(self.pairs)
        self.unsent = memoryview(frame)
        self.filled = 0
        self.sent_at = now

    def send(self) -> bool:
        """Send what the kernel takes; true once all is sent."""
        while self.unsent:
            try:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
            except BlockingIOError:
                return False
        return True

    def receive(self) -> bool:
        """Read what has come; true once the reply is whole, and right."""
        count = self.sock.recv_into(self.view[self.filled :])
        if not count:
            raise WrongReply(f"the server closed the connection after {self.filled} bytes")
        self.filled += count
        if self.filled < len(self.buffer):
            return False
        if self.buffer != self.expected:
            raise WrongReply("the echo differs from what was sent")
        return True


def run(
    target: Target,
    *,
    connections: int = 4,
    size: int = 2**20,
    seconds: float = 2.0,
    warm_up: float = 0.5,
) -> Result:
    rng = random.Random(0)
    # Two messages in turn, so that a buffer that was not overwritten is never taken for a reply.
    payloads = [rng.randbytes(size) for _ in range(2)]
    pairs = [(client_frame(BINARY, p), server_frame(BINARY, p)) for p in payloads]
    poller = Poller()
    exchanges = {
        each.sock.fileno(): each for each in (Exchange(target, pairs) for _ in range(connections))
    }
    latencies: list[float] = []
    clock = time.perf_counter

    def send(fd: int, registered: bool) -> None:
        finished = exchanges[fd].send()
        if finished and not registered:
            return
        poller.modify(fd, select.EPOLLIN if finished else select.EPOLLIN | select.EPOLLOUT)

    def drive(until: float) -> None:
        now = clock()
        while now < until:
            ready = poller.wait()
            now = clock()
            for fd, event in ready:
                each = exchanges[fd]
                if event & select.EPOLLOUT:
                    send(fd, True)
                if event & ~select.EPOLLOUT and each.receive():
                    now = clock()
                    latencies.append(now - each.sent_at)
                    each.start(now)
                    send(fd, False)

    for fd in exchanges:
        poller.register(fd, select.EPOLLIN)
        send(fd, False)
    result = measure(target, poller, drive, latencies, seconds=seconds, warm_up=warm_up)
    for each in exchanges.values():
        each.connection.close()
    return result
