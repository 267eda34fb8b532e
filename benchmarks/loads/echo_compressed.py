"""Connections echoing JSON text through permessage-deflate, with context takeover."""

from __future__ import annotations

import json
import random
import re
import select
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.loads import Poller, Result, Target, measure
from benchmarks.wire import TEXT, Connection, WrongReply, client_frame, connect, parse_server_frame

OFFER = "permessage-deflate; client_max_window_bits"  # what browsers offer
TAIL = b"\x00\x00\xff\xff"

# With this many KiB in turn, all that the 32 KiB window holds is the same each time round.
MESSAGES = 64


def json_texts(size: int) -> list[bytes]:
    """JSON as applications send it: names that repeat, values that do not; `size` bytes each."""
    rng = random.Random(7)
    names = ["Ada", "Berta", "Chiara", "Dmitri", "Eleni", "Farid", "Giulia", "Hana"]
    texts = []
    for number in range(MESSAGES):
        rows: list[dict[str, object]] = []
        while True:
            row = {
                "id": rng.randrange(10**9),
                "user": rng.choice(names),
                "price": round(rng.uniform(1, 1000), 2),
                "online": rng.random() < 0.5,
                "tags": rng.sample(["new", "sale", "sold", "hot"], 2),
            }
            text = json.dumps({"seq": number, "type": "update", "rows": [*rows, row], "pad": ""})
            if len(text) > size:
                break
            rows.append(row)
        pad = size - len(json.dumps({"seq": number, "type": "update", "rows": rows, "pad": ""}))
        text = json.dumps({"seq": number, "type": "update", "rows": rows, "pad": "x" * pad})
        texts.append(text.encode())
    return texts


@dataclass(frozen=True)
class Negotiated:
    """What the server's answer says about our frames; its own we inflate as they come."""

    window_bits: int
    no_takeover: bool

    @classmethod
    def parse(cls, extensions: str) -> Negotiated:
        if not extensions.startswith("permessage-deflate"):
            raise WrongReply(f"compression was not negotiated: {extensions!r}")
        bits = re.search(r"client_max_window_bits *= *\"?(\d+)", extensions)
        return cls(int(bits[1]) if bits else 15, "client_no_context_takeover" in extensions)


def prepare(texts: list[bytes], how: Negotiated) -> tuple[list[bytes], list[bytes]]:
    """Frames for the first time round, and for every other.

    What a frame may refer to, the last 32 KiB, is the same from the second time round on.
    """

    def deflate(compressor: zlib._Compress, text: bytes) -> bytes:
        data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return client_frame(TEXT, data.removesuffix(TAIL), rsv1=True)

    def new() -> zlib._Compress:
        return zlib.compressobj(wbits=-how.window_bits)

    if how.no_takeover:
        frames = [deflate(new(), text) for text in texts]
        return frames, frames
    compressor = new()
    first = [deflate(compressor, text) for text in texts]
    return first, [deflate(compressor, text) for text in texts]


class Exchange:
    def __init__(self, connection: Connection, frames: Iterator[tuple[bytes, bytes]]) -> None:
        self.sock = connection.sock
        self.frames = frames
        self.inflate = zlib.decompressobj(-15).decompress
        self.received = b""
        self.expected = b""
        self.sent_at = 0.0

    def start(self, now: float) -> None:
        frame, self.expected = next(self.frames)
        self.sent_at = now
        if self.sock.send(frame) != len(frame):
            raise WrongReply("the kernel did not take a whole frame")

    def receive(self) -> int:
        """0 while the reply is not whole, 1 if it came uncompressed, 2 if compressed."""
        data = self.sock.recv(65536)
        if not data:
            raise WrongReply("the server closed the connection")
        data = self.received + data if self.received else data
        frame = parse_server_frame(data)
        if frame is None:
            self.received = data
            return 0
        first, start, end = frame
        if first not in (0xC1, 0x81) or end != len(data):
            raise WrongReply(f"expected one whole text frame, got {data[:40]!r}")
        self.received = b""
        payload, compressed = data[start:end], first == 0xC1
        if compressed:
            payload = self.inflate(payload + TAIL)
        if payload != self.expected:
            raise WrongReply("the echo differs from what was sent")
        return 2 if compressed else 1


def run(
    target: Target,
    *,
    connections: int = 50,
    size: int = 1024,
    seconds: float = 2.0,
    warm_up: float = 0.5,
) -> Result:
    texts = json_texts(size)
    prepared: dict[Negotiated, tuple[list[bytes], list[bytes]]] = {}

    def turns(how: Negotiated) -> Iterator[tuple[bytes, bytes]]:
        if how not in prepared:
            prepared[how] = prepare(texts, how)
        first, other = prepared[how]
        yield from zip(first, texts, strict=True)
        while True:
            yield from zip(other, texts, strict=True)

    poller = Poller()
    exchanges: dict[int, Exchange] = {}
    for _ in range(connections):
        connection = connect(target.port, target.path, OFFER)
        connection.sock.setblocking(False)
        frames = turns(Negotiated.parse(connection.extensions))
        exchanges[connection.sock.fileno()] = Exchange(connection, frames)
    for fd in exchanges:
        poller.register(fd, select.EPOLLIN)

    latencies: list[float] = []
    compressed: list[bool] = []
    clock = time.perf_counter

    def drive(until: float) -> None:
        now = clock()
        while now < until:
            ready = poller.wait()
            now = clock()
            for fd, _ in ready:
                each = exchanges[fd]
                got = each.receive()
                if got:
                    compressed.append(got == 2)
                    latencies.append(now - each.sent_at)
                    each.start(now)

    for each in exchanges.values():
        each.start(clock())
    result = measure(target, poller, drive, latencies, compressed, seconds=seconds, warm_up=warm_up)
    for each in exchanges.values():
        each.sock.close()
    return {**result, "compressed": sum(compressed) / len(compressed)}
