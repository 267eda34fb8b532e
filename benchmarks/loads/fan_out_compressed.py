"""One sender, many receivers that offer permessage-deflate, as browsers do.

A server may deflate a message anew for each receiver, each with a history of its own, or once for
all. Payloads that need no history are inflated and compared once; the same bytes need not be again.
"""

from __future__ import annotations

import time
import zlib
from collections import deque

from benchmarks.loads import Poller, Result, Target, measure
from benchmarks.loads.echo_compressed import OFFER, TAIL, json_texts
from benchmarks.wire import (
    TEXT,
    Connection,
    WrongReply,
    client_frame,
    connect,
    parse_server_frame,
)

WINDOW = 2**15


class Receiver:
    """One connection, and what its server may refer back to."""

    def __init__(self, connection: Connection, known: dict[bytes, bytes]) -> None:
        self.sock = connection.sock
        # Payloads that inflate without a history, and what to; shared.
        self.known = known
        self.inflater = zlib.decompressobj(-15)
        # What the inflater has not seen yet, as it was known.
        self.skipped: deque[bytes] = deque()
        self.skipped_size = 0
        # That it is subscribed comes compressed from some, however short.
        first, payload = connection.receive_frame()
        if (self.inflate(payload) if first == 0xC1 else payload) != b"ready":
            raise WrongReply(f"expected 'ready', got {payload[:40]!r}")
        self.received = connection.buffered
        self.sock.setblocking(False)

    def inflate(self, payload: bytes) -> bytes:
        text = self.known.get(payload)
        if text is not None:
            self.skipped.append(payload)
            self.skipped_size += len(text)
            while self.skipped_size - len(self.known[self.skipped[0]]) > WINDOW:
                self.skipped_size -= len(self.known[self.skipped.popleft()])
            return text
        for each in self.skipped:
            self.inflater.decompress(each + TAIL)
        self.skipped.clear()
        self.skipped_size = 0
        text = self.inflater.decompress(payload + TAIL)
        try:
            alone = zlib.decompressobj(-15).decompress(payload + TAIL)
        except zlib.error:
            pass
        else:
            if alone == text and len(self.known) < WINDOW:
                self.known[payload] = text
        return text

    def receive(self, expected: deque[bytes]) -> tuple[int, int]:
        """Take what has come; tell how many messages, and how many of them came compressed."""
        data = self.sock.recv(65536)
        if not data:
            raise WrongReply("the server closed the connection")
        data = self.received + data if self.received else data
        count = compressed = 0
        while (frame := parse_server_frame(data)) is not None:
            first, start, end = frame
            if first not in (0xC1, 0x81):
                raise WrongReply(f"expected a text frame, got {data[:40]!r}")
            payload, data = data[start:end], data[end:]
            if first == 0xC1:
                payload = self.inflate(payload)
                compressed += 1
            if not expected or payload != expected.popleft():
                raise WrongReply("a delivery differs from what was sent")
            count += 1
        self.received = data
        return count, compressed


def run(
    target: Target,
    *,
    receivers: int = 1000,
    size: int = 1024,
    batch: int = 8,
    seconds: float = 2.0,
    warm_up: float = 0.5,
    subscribe_path: str = "/subscribe",
    publish_path: str = "/publish",
) -> Result:
    poller = Poller()
    opened: dict[int, Receiver] = {}
    known: dict[bytes, bytes] = {}
    for _ in range(receivers):
        connection = connect(target.port, subscribe_path, OFFER)
        if not connection.extensions.startswith("permessage-deflate"):
            raise WrongReply(f"compression was not negotiated: {connection.extensions!r}")
        opened[connection.sock.fileno()] = Receiver(connection, known)
        poller.register(connection.sock.fileno(), 1)
    sender = connect(target.port, publish_path)
    texts = json_texts(size)
    batches = [texts[start : start + batch] for start in range(0, len(texts), batch)]
    requests = [b"".join(client_frame(TEXT, text) for text in each) for each in batches]
    times: list[float] = []
    compressed: list[int] = []
    clock = time.perf_counter

    def deliver(request: bytes, messages: list[bytes]) -> None:
        start = clock()
        sender.sock.sendall(request)
        expected = {fd: deque(messages) for fd in opened}
        waiting = receivers * batch
        while waiting:
            for fd, _ in poller.wait():
                count, inflated = opened[fd].receive(expected[fd])
                waiting -= count
                compressed.append(inflated)
        times.append(clock() - start)

    def drive(until: float) -> None:
        turn = 0
        while clock() < until:
            deliver(requests[turn % len(batches)], batches[turn % len(batches)])
            turn += 1

    deliveries = batch * receivers
    result = measure(
        target, poller, drive, times, compressed, seconds=seconds, warm_up=warm_up, each=deliveries
    )
    for each in opened.values():
        each.sock.close()
    sender.close()
    return {**result, "compressed": sum(compressed) / (len(times) * deliveries)}
