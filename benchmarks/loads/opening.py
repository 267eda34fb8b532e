"""Connections opened a second: handshake, one echo, closing handshake, and the next.

Not every server answers a close frame with just that; those that do are counted.
"""

from __future__ import annotations

import select
import socket
import time

from benchmarks.loads import STALLED, Poller, Result, Target, measure
from benchmarks.wire import (
    BINARY,
    CLOSE,
    CLOSE_NORMAL,
    HOST,
    WrongReply,
    check_head,
    client_frame,
    handshake,
    server_frame,
)

MESSAGE = client_frame(BINARY, b"hello, server")
ECHO = server_frame(BINARY, b"hello, server")
CLOSE_FRAME = client_frame(CLOSE, CLOSE_NORMAL)
CLOSE_REPLY = server_frame(CLOSE, CLOSE_NORMAL)


class Visit:
    """The life of one connection, as a generator of how much has been done."""

    def __init__(self, target: Target, request: bytes) -> None:
        self.started = time.perf_counter()
        self.sock = socket.create_connection((HOST, target.port), timeout=STALLED)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(request)
        self.sock.setblocking(False)
        self.received = b""
        self.closing = False
        self.step = self.on_head

    def on_readable(self) -> bool:
        """True once the server has answered the close frame, somehow."""
        data = self.sock.recv(65536)
        if not data and self.closing:
            return True
        if not data:
            raise WrongReply(f"the server closed the connection: {self.received[:80]!r}")
        self.received += data
        return self.step()

    def on_head(self) -> bool:
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if end:
            check_head(head)
            self.received = rest
            self.sock.send(MESSAGE)
            self.step = self.on_echo
        return False

    def on_echo(self) -> bool:
        if len(self.received) >= len(ECHO):
            if self.received != ECHO:
                raise WrongReply(f"expected {ECHO!r}, got {self.received!r}")
            self.received = b""
            self.sock.send(CLOSE_FRAME)
            self.closing = True
            self.step = self.on_close
        return False

    def on_close(self) -> bool:
        return len(self.received) >= 2

    @property
    def ended_well(self) -> bool:
        """Whether the close frame was answered with one, and with nothing else."""
        return self.received == CLOSE_REPLY


def run(
    target: Target, *, concurrency: int = 8, seconds: float = 2.0, warm_up: float = 0.5
) -> Result:
    request = handshake(target.port, target.path)
    poller = Poller()
    visits: dict[int, Visit] = {}
    latencies: list[float] = []
    ended_well: list[bool] = []
    clock = time.perf_counter

    def begin() -> None:
        visit = Visit(target, request)
        fd = visit.sock.fileno()
        visits[fd] = visit
        poller.register(fd, select.EPOLLIN)

    def drive(until: float) -> None:
        now = clock()
        while now < until:
            ready = poller.wait()
            now = clock()
            for fd, _ in ready:
                visit = visits[fd]
                if visit.on_readable():
                    latencies.append(now - visit.started)
                    ended_well.append(visit.ended_well)
                    poller.unregister(fd)
                    del visits[fd]
                    visit.sock.close()
                    begin()

    for _ in range(concurrency):
        begin()
    result = measure(target, poller, drive, latencies, ended_well, seconds=seconds, warm_up=warm_up)
    for visit in visits.values():
        visit.sock.close()
    return {**result, "ended_well": sum(ended_well) / len(ended_well)}
