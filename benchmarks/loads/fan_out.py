"""One sender, many receivers: a few messages at a time, the next when every receiver has them all.

The receivers connect to `subscribe`, and are told "ready" once they are subscribed; the sender
to `publish`. `dialect` "socketio" speaks to Socket.IO what the others say plainly. With
`stalled`, that many more receivers never read.
"""

from __future__ import annotations

import random
import select
import socket
import time

from benchmarks.loads import Poller, Result, Target, measure
from benchmarks.wire import (
    BINARY,
    TEXT,
    Connection,
    WrongReply,
    client_frame,
    connect,
    server_frame,
)

SOCKETIO = "/socket.io/?EIO=4&transport=websocket"


def subscribe(target: Target, path: str, dialect: str) -> Connection:
    if dialect == "plain":
        connection = connect(target.port, path)
        connection.expect(server_frame(TEXT, b"ready"))
        return connection
    connection = connect(target.port, SOCKETIO)
    if not connection.receive_frame()[1].startswith(b"0{"):
        raise WrongReply("expected an Engine.IO open packet")
    connection.sock.sendall(client_frame(TEXT, b"40"))
    # The event that says so may come before the packet that confirms the connection, or after it.
    missing = {b"40", b'42["ready"]'}
    while missing:
        payload = connection.receive_frame()[1]
        missing = {start for start in missing if not payload.startswith(start)}
    return connection


def messages(size: int, count: int, dialect: str) -> list[tuple[bytes, bytes]]:
    """Batches of `count` messages, and the exact bytes that each receiver must get."""
    rng = random.Random(5)
    pairs = []
    for _ in range(4 * count):
        payload = rng.randbytes(size // 2).hex().encode()
        if dialect == "socketio":
            request = client_frame(TEXT, b'42["publish","' + payload + b'"]')
            pairs.append((request, server_frame(TEXT, b'42["news","' + payload + b'"]')))
        else:
            pairs.append((client_frame(BINARY, payload), server_frame(BINARY, payload)))
    batches = [pairs[start : start + count] for start in range(0, len(pairs), count)]
    return [
        (b"".join(request for request, _ in batch), b"".join(reply for _, reply in batch))
        for batch in batches
    ]


def run(
    target: Target,
    *,
    receivers: int = 1000,
    size: int = 64,
    batch: int = 8,
    seconds: float = 2.0,
    warm_up: float = 0.5,
    dialect: str = "plain",
    stalled: int = 0,
    subscribe_path: str = "/subscribe",
    publish_path: str = "/publish",
) -> Result:
    opened = [subscribe(target, subscribe_path, dialect) for _ in range(receivers)]
    silent = [subscribe(target, subscribe_path, dialect) for _ in range(stalled)]
    sender = opened[0] if dialect == "socketio" else connect(target.port, publish_path)
    pairs = messages(size, batch, dialect)
    poller = Poller()
    receive = {each.sock.fileno(): each.sock.recv for each in opened}
    for each in opened:
        each.sock.setblocking(False)
        # Wake for a whole batch only: one wake-up for each message would make this the bottleneck.
        each.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(pairs[0][1]))
        poller.register(each.sock.fileno(), select.EPOLLIN)
    partial: dict[int, bytes] = {}
    times: list[float] = []
    clock = time.perf_counter

    def complete(fd: int, data: bytes, expected: bytes) -> bool:
        """Take note of a delivery that came in pieces; true once it is whole."""
        data = partial.pop(fd, b"") + data
        if data == expected:
            return True
        if not data or not expected.startswith(data):
            raise WrongReply(f"expected {expected[:40]!r}, got {data[:40]!r}")
        partial[fd] = data
        return False

    def deliver(request: bytes, expected: bytes) -> None:
        start = clock()
        sender.sock.send(request)
        waiting = receivers
        while waiting:
            for fd, _ in poller.wait():
                data = receive[fd](65536)
                if data == expected or complete(fd, data, expected):
                    waiting -= 1
        times.append(clock() - start)

    def drive(until: float) -> None:
        while clock() < until:
            for request, expected in pairs:
                deliver(request, expected)

    result = measure(
        target, poller, drive, times, seconds=seconds, warm_up=warm_up, each=batch * receivers
    )
    for each in [*opened, *silent, sender]:
        each.close()
    return result
