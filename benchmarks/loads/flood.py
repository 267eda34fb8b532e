"""One connection, one message at a time, while eight others send at full speed.

In turns of a third of a second the eight send ordinary messages, and what is never a message:
pings, pongs or empty fragments. What counts is the ratio of the two. Each turn has eight new ones:
the server would be busy with what the last have left in their sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from benchmarks.loads import Result, Target, percentile
from benchmarks.machine import Meter
from benchmarks.wire import BINARY, client_frame, connect, server_frame

MASK = b"\x37\xfa\x21\x3d"
PEERS = 8
TURN = 1 / 3
CHUNK = 2**14
#: Seconds for the server to notice that the eight have gone.
RECOVERY = 0.2

#: What begins a flood, and what it goes on with.
FLOODS = {
    "messages": (b"", client_frame(BINARY, bytes(32))),
    "pings": (b"", b"\x89\x80" + MASK),
    "pongs": (b"", b"\x8a\x80" + MASK),
    "fragments": (b"\x02\x80" + MASK, b"\x00\x80" + MASK),
}


class Peers:
    """The eight, in a process of their own.

    :param kind: what they send.
    """

    def __init__(self, target: Target, kind: str) -> None:
        begin, more = FLOODS[kind]
        socks = [connect(target.port, target.path).sock for _ in range(PEERS)]
        self._pid = os.fork()
        if self._pid == 0:
            try:
                flood(socks, begin, more * (CHUNK // len(more)))
            finally:
                os._exit(0)
        for sock in socks:
            sock.close()

    def end(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def flood(socks: list[socket.socket], begin: bytes, chunk: bytes) -> None:
    for sock in socks:
        sock.sendall(begin)
        sock.setblocking(False)
    at = dict.fromkeys(socks, 0)
    while True:
        for sock in socks:
            try:
                # What is left of a chunk goes first.
                at[sock] = (at[sock] + sock.send(chunk[at[sock] :])) % len(chunk)
            except BlockingIOError:
                pass
            try:
                sock.recv(CHUNK)
            except BlockingIOError:
                pass


def run(
    target: Target, *, kind: str = "pongs", seconds: float = 4.0, warm_up: float = 0.3
) -> Result:
    connection = connect(target.port, target.path)
    payload = bytes(range(32))
    request, reply = client_frame(BINARY, payload), server_frame(BINARY, payload)
    clock = time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in ("messages", kind)}

    def drive(until: float) -> list[float]:
        found = []
        while clock() < until:
            start = clock()
            connection.sock.sendall(request)
            connection.expect(reply)
            found.append(clock() - start)
        return found

    meter = Meter(target.pid)
    # In turns, so that what the machine does meanwhile hits both.
    for _ in range(max(1, round(seconds / TURN / len(times)))):
        for name, found in times.items():
            # New ones: what is left in their sockets goes with them.
            eight = Peers(target, name)
            try:
                drive(clock() + min(warm_up, TURN))
                found.extend(drive(clock() + TURN))
            finally:
                eight.end()
            drive(clock() + RECOVERY)
    usage = meter.stop()
    connection.close()
    p99 = {name: percentile(sorted(found), 99) for name, found in times.items()}
    return {
        "value": p99[kind] / p99["messages"],
        "p99": p99[kind],
        "p99_messages": p99["messages"],
        "p50": percentile(sorted(times[kind]), 50),
        **usage.as_result(),
    }
