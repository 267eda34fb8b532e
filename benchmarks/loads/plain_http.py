"""Plain HTTP: a page asked for again and again, on connections that are kept open."""

from __future__ import annotations

import select
import socket
import time

from benchmarks.loads import STALLED, Poller, Result, Target, measure
from benchmarks.wire import HOST, WrongReply

BODY = b"hello, client"


def run(
    target: Target, *, connections: int = 8, seconds: float = 2.0, warm_up: float = 0.5
) -> Result:
    poller = Poller()
    request = f"GET {target.path} HTTP/1.1\r\nHost: {HOST}:{target.port}\r\n\r\n".encode()
    opened: dict[int, socket.socket] = {}
    replies: dict[int, bytes] = {}
    sent_at: dict[int, float] = {}
    for _ in range(connections):
        sock = socket.create_connection((HOST, target.port), timeout=STALLED)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened[sock.fileno()], replies[sock.fileno()] = sock, b""
        poller.register(sock.fileno(), select.EPOLLIN)

    latencies: list[float] = []
    clock = time.perf_counter

    def drive(until: float) -> None:
        now = clock()
        while now < until:
            ready = poller.wait()
            now = clock()
            for fd, _ in ready:
                data = opened[fd].recv(65536)
                reply = replies[fd] + data
                if not data or not reply.startswith(b"HTTP/1.1 200"):
                    raise WrongReply(f"expected a page, got {reply[:80]!r}")
                if not reply.endswith(BODY):
                    replies[fd] = reply
                    continue
                replies[fd] = b""
                latencies.append(now - sent_at[fd])
                sent_at[fd] = now
                opened[fd].send(request)

    for fd, sock in opened.items():
        sent_at[fd] = clock()
        sock.send(request)
    result = measure(target, poller, drive, latencies, seconds=seconds, warm_up=warm_up)
    for sock in opened.values():
        sock.close()
    return result
