"""A crowd of clients, most of them ill-behaved, run against one server at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.support.redis import RedisServer

from flask_ws.testing.suite.process import Server
from flask_ws.testing.suite.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Header,
    build_request,
    encode_close,
    encode_frame,
    handshake_headers,
    make_accept,
    make_key,
)

LOST = (ConnectionError, asyncio.IncompleteReadError, asyncio.TimeoutError, TimeoutError, OSError)

#: No answer takes longer, on however slow a machine.
PATIENCE = 20.0

#: The same behaviour as a handler, as an event view, and as an async handler.
ECHO = ("/echo", "/events/echo", "/async/echo")
PINGED = ("/pinged", "/events/pinged", "/async/pinged")
STALL = ("/push", "/events/stall", "/async/push")
DEAF = ("/deaf", "/async/deaf")


@dataclass
class Client:
    """An open WebSocket, seen from its client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_frame(self) -> Frame:
        """Read one that is no ping; some servers send pings of their own."""
        while True:
            frame = await asyncio.wait_for(self.next_frame(), PATIENCE)
            if frame.opcode != PING:
                return frame
            await self.send(encode_frame(PONG, frame.payload))

    async def next_frame(self) -> Frame:
        """Read one, for however long it takes."""
        first, second = await self.reader.readexactly(2)
        size: int = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        payload = await self.reader.readexactly(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80), (first >> 4) & 7)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), PATIENCE)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Crowd:
    """The clients of one run, and what they found wrong."""

    server: Server
    seconds: float
    seed: int = 1
    echo_clients: int = 100
    #: The broker, which is stopped now and then.
    redis: RedisServer | None = None
    #: Whether the server has greenlets, whose sends are interrupted.
    interrupted: bool = False
    #: Whether the server gives each client its turn, whatever another sends.
    turns: bool = True
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Run everything at once, until the time is up and the well-behaved have closed."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        self.deadline = time.monotonic() + self.seconds
        actors: list[Callable[[random.Random], Awaitable[None]]] = []
        actors += [self.echo] * self.echo_clients
        actors += [self.http] * 3
        if self.redis is not None:
            actors.append(self.stop_redis)
        if self.interrupted:
            actors.append(self.again(self.read_slowly))
        ill_behaved = (
            self.reset_often,
            self.vanish,
            self.flood,
            self.flood_with_control_frames,
            self.stall,
            self.dribble,
            self.bomb,
            self.break_frames,
            self.spoil_headers,
            self.name_badly,
            self.fill_and_vanish,
        )
        for actor in ill_behaved:
            if actor != self.flood_with_control_frames or self.turns:
                actors += [self.again(actor)] * 2
        everyone = asyncio.gather(
            *(actor(random.Random(self.seed + n)) for n, actor in enumerate(actors))
        )
        await asyncio.wait_for(everyone, self.seconds + 4 * PATIENCE)

    @property
    def _ends(self) -> tuple[str, ...]:
        """How a client may vanish; a server's own pings find a silent one after a minute."""
        ours = self.server.setup.capabilities.frames
        return ("reset", "FIN", "silence") if ours else ("reset", "FIN")

    @property
    def over(self) -> bool:
        return time.monotonic() > self.deadline

    def again(
        self, actor: Callable[[random.Random], Awaitable[None]]
    ) -> Callable[[random.Random], Awaitable[None]]:
        """Do it again and again: to be cut off is part of it."""

        async def run(chance: random.Random) -> None:
            while not self.over:
                with contextlib.suppress(*LOST):
                    await actor(chance)
                self.counts[actor.__name__] += 1
                await asyncio.sleep(chance.uniform(0, 0.1))

        return run

    @contextlib.asynccontextmanager
    async def dial(self) -> AsyncIterator[Client]:
        if self.server.setup.unix:
            connecting = asyncio.open_unix_connection(self.server.bind.removeprefix("unix:"))
        else:
            context = self.server.context()
            connecting = asyncio.open_connection(
                "127.0.0.1",
                self.server.port,
                ssl=context,
                server_hostname="localhost" if context else None,
            )
        reader, writer = await asyncio.wait_for(connecting, PATIENCE)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(*LOST):
                await asyncio.wait_for(writer.wait_closed(), 2)

    @contextlib.asynccontextmanager
    async def connect(
        self, path: str, headers: list[Header] | None = None
    ) -> AsyncIterator[Client]:
        async with self.dial() as client:
            key = make_key()
            await client.send(
                build_request(
                    path, host=self.server.host, headers=handshake_headers(key, extra=headers or [])
                )
            )
            head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert head.startswith(b"HTTP/1.1 101 "), head
            assert make_accept(key).encode() in head, head
            yield client

    async def ask(self, path: str, method: str = "GET", body: bytes = b"") -> bytes:
        """Ask by HTTP; the body of an answer with the status 200."""
        headers = [("Connection", "close")]
        if body:
            headers.append(("Content-Length", str(len(body))))
        async with self.dial() as client:
            await client.send(
                build_request(
                    path, method=method, host=self.server.host, headers=headers, body=body
                )
            )
            answer = await asyncio.wait_for(client.reader.read(), PATIENCE)
        assert answer.startswith(b"HTTP/1."), answer[:200]
        assert b" 200 " in answer[:20], answer[:200]
        return answer.partition(b"\r\n\r\n")[2]

    # The well-behaved

    async def echo(self, chance: random.Random) -> None:
        """Check every byte that comes back; nothing may be lost."""
        try:
            async with self.connect(chance.choice(ECHO)) as client:
                exchanges = 0
                # On a busy machine, the time may be up before the connection is open.
                while exchanges < 2 or not self.over:
                    exchanges += 1
                    await self._exchange(client, chance)
                    await asyncio.sleep(chance.uniform(0.01, 0.1))
                await client.send(encode_close(1000))
                frame = await client.read_frame()
                if frame.opcode != CLOSE or frame.close_code != 1000:
                    self.faults.append(f"no close frame but {frame!r}")
                rest = await asyncio.wait_for(client.reader.read(), PATIENCE)
                if rest:
                    self.faults.append(f"after the close frame: {rest[:100]!r}")
        except (*LOST, AssertionError) as error:
            self.faults.append(f"an echo client was let down: {error!r}")

    async def _exchange(self, client: Client, chance: random.Random) -> None:
        payload = chance.randbytes(int(chance.paretovariate(1)) % 70000)
        opcode = BINARY
        if chance.random() < 0.3:
            opcode, payload = TEXT, payload.hex().encode()
        if chance.random() < 0.2:
            cut = chance.randint(0, len(payload))
            await client.send(
                encode_frame(opcode, payload[:cut], fin=False)
                + encode_frame(PING, b"between")
                + encode_frame(CONTINUATION, payload[cut:])
            )
            pong = await client.read_frame()
            if (pong.opcode, pong.payload) != (PONG, b"between"):
                self.faults.append(f"no pong but {pong!r}")
        else:
            await client.send(encode_frame(opcode, payload))
        frame = await client.read_frame()
        if (frame.opcode, frame.payload, frame.fin, frame.rsv) != (opcode, payload, True, 0):
            self.faults.append(f"sent {len(payload)} B, and back came {frame!r}")
        self.counts["messages"] += 1

    async def http(self, chance: random.Random) -> None:
        """Requests beside all that: each must succeed."""
        while not self.over:
            try:
                await self.ask("/http")
            except (*LOST, AssertionError) as error:
                self.faults.append(f"HTTP failed: {error!r}")
            self.counts["requests"] += 1
            await asyncio.sleep(chance.uniform(0.02, 0.1))

    # The ill-behaved

    async def reset_often(self, chance: random.Random) -> None:
        """Reset at any point of a message."""
        async with self.connect(chance.choice(ECHO)) as client:
            frame = encode_frame(BINARY, bytes(1000))
            await client.send(frame[: chance.randint(0, len(frame))])
            client.reset()

    async def vanish(self, chance: random.Random) -> None:
        """Say nothing more, and answer no ping."""
        # Pings that are the server's come too late to be awaited, if there are any.
        ours = self.server.setup.capabilities.frames
        patience = PATIENCE if ours else max(0.1, self.deadline - time.monotonic())
        async with self.connect(chance.choice(PINGED)) as client:
            await asyncio.wait_for(client.reader.read(), min(patience, PATIENCE))

    async def flood(self, chance: random.Random) -> None:
        """Send without reading."""
        async with self.connect(chance.choice(ECHO)) as client:
            frame = encode_frame(BINARY, bytes(65536))
            with contextlib.suppress(asyncio.TimeoutError):
                for _ in range(200):
                    client.writer.write(frame)
                    await asyncio.wait_for(client.writer.drain(), 0.3)
            client.reset()

    async def flood_with_control_frames(self, chance: random.Random) -> None:
        """Send what is never a message, as fast as it goes, and read what comes back."""
        begin, more = chance.choice(
            [
                (b"", encode_frame(PING)),
                (b"", encode_frame(PONG)),
                (encode_frame(TEXT, fin=False), encode_frame(CONTINUATION, fin=False)),
            ]
        )
        async with self.connect(chance.choice(ECHO)) as client:
            reading = asyncio.ensure_future(client.reader.read(-1))
            client.writer.write(begin)
            until = min(self.deadline, time.monotonic() + 1.0)
            try:
                while time.monotonic() < until:
                    await client.send(more * 2000)
            finally:
                client.reset()
                reading.cancel()

    async def stall(self, chance: random.Random) -> None:
        """Be sent to without reading; the reader's own buffer is small."""
        async with self.connect(chance.choice(STALL)) as client:
            await client.send(encode_frame(TEXT, b"go"))
            transport = client.writer.transport
            assert isinstance(transport, asyncio.ReadTransport)
            transport.pause_reading()
            await asyncio.sleep(min(1.5, max(0.0, self.deadline - time.monotonic())))
            client.reset()

    async def fill_and_vanish(self, chance: random.Random) -> None:
        """Send more than waits for a handler that does not receive, and go, or be silent."""
        async with self.connect(chance.choice(DEAF)) as client:
            for _ in range(chance.choice((16, 20, 200))):
                await client.send(encode_frame(TEXT, b"hello"))
            how = chance.choice(self._ends)
            if how == "reset":
                client.reset()
                return
            if how == "FIN" and client.writer.can_write_eof():
                client.writer.write_eof()
            # The server ends the connection.
            try:
                await asyncio.wait_for(client.reader.read(), PATIENCE)
            except asyncio.TimeoutError:
                self.faults.append(f"a full queue is kept after {how}")

    async def read_slowly(self, chance: random.Random) -> None:
        """Let the server's handler be interrupted again and again; what comes is whole."""
        async with self.connect("/interrupted") as client:
            number = -1
            await asyncio.sleep(chance.uniform(0.2, 0.6))
            while True:
                payload = (await client.read_frame()).payload
                if payload == b"that was all":
                    return
                # One whose sender was interrupted before its turn came is missing.
                following = int.from_bytes(payload[:4], "big")
                if following <= number or payload != payload[:4] * 50_000:
                    self.faults.append(f"after message {number} came {payload[:20]!r}")
                    return
                number = following

    async def dribble(self, chance: random.Random) -> None:
        """A message in crumbs; it is echoed all the same."""
        message = chance.randbytes(30)
        async with self.connect(chance.choice(ECHO)) as client:
            for byte in encode_frame(BINARY, message):
                await client.send(bytes([byte]))
                await asyncio.sleep(0.005)
            frame = await client.read_frame()
            if frame.payload != message:
                self.faults.append(f"a message in crumbs came back as {frame!r}")

    async def bomb(self, chance: random.Random) -> None:
        """A little that inflates to a lot is 1009."""
        if not self.server.setup.capabilities.compression:
            return
        deflater = zlib.compressobj(wbits=-15)
        data = deflater.compress(bytes(20 << 20)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
        async with self.connect(chance.choice(ECHO), headers=offer) as client:
            await client.send(encode_frame(BINARY, data[:-4], rsv=4))
            frame = await client.read_frame()
            if frame.opcode != CLOSE or frame.close_code != 1009:
                self.faults.append(f"a bomb was answered {frame!r}")

    async def name_badly(self, chance: random.Random) -> None:
        """Names of channels that are none, and one that is: in JSON, as clients write them."""
        async with self.connect("/channels/chosen") as client:
            for name in chance.sample(["\ud800", "room \udfff", "", "x" * 10_000, "ü" * 200], 3):
                await client.send(encode_frame(TEXT, json.dumps(name).encode()))
                frame = await client.read_frame()
                if frame.payload != b"refused":
                    self.faults.append(f"the name {name[:20]!r} was answered {frame!r}")
            name = f"room {chance.randrange(2**32)}"
            await client.send(encode_frame(TEXT, json.dumps(name).encode()))
            frame = await client.read_frame()
            if frame.payload != b"joined":
                self.faults.append(f"the name {name!r} was answered {frame!r}")

    async def stop_redis(self, chance: random.Random) -> None:
        """Let the broker hang for a moment, which is to be felt by nobody but who asks it."""
        assert self.redis is not None
        while not self.over:
            for number in (signal.SIGSTOP, signal.SIGCONT):
                self.redis.signal(number)
                await asyncio.sleep(chance.uniform(0.1, 0.6))
            self.counts["stops of Redis"] += 1

    async def break_frames(self, chance: random.Random) -> None:
        """Frames that are none; the server ends the connection."""
        broken = chance.choice(
            [
                b"\x81\x05hello",
                encode_frame(0x3, b"reserved opcode"),
                encode_frame(BINARY, b"reserved bits", rsv=7),
                encode_frame(TEXT, b"\xff\xfe"),
                encode_frame(PING, bytes(126)),
                encode_frame(PING, b"in parts", fin=False),
                encode_frame(CONTINUATION, b"of nothing"),
                encode_frame(CLOSE, b"\x03"),
                encode_frame(CLOSE, b"\x03\xed"),
                b"\x82\xff" + b"\xff" * 12,
                chance.randbytes(2000),
            ]
        )
        async with self.connect(chance.choice(ECHO)) as client:
            await client.send(broken)
            if client.writer.can_write_eof():
                client.writer.write_eof()
            await asyncio.wait_for(client.reader.read(), PATIENCE)

    async def spoil_headers(self, chance: random.Random) -> None:
        """Headers of a request that is no handshake, or of a 101 that cannot be sent."""
        path, status = chance.choice(ECHO), b"400"
        lines = [f"Host: {self.server.host}"]
        lines += [f"{name}: {value}" for name, value in handshake_headers(make_key())]
        spoilt = chance.randrange(4)
        if spoilt == 0:
            lines.append(chance.choice(["Content-Length: +0", "Content-Length: 0_0"]))
        elif spoilt == 1:
            del lines[0]
        elif spoilt == 2:
            # Some names, and values, that the app sets.
            header = chance.choice(["X-User=\u0141ukasz", "X-User\r\nX=a", "X-User=a\0b", "=a"])
            path, status = f"{path}?header={quote(header)}", b"500"
        else:
            # It stands, but without what is ours.
            path, status = f"{path}?header=Connection=close", b"101"
        async with self.dial() as client:
            await client.send("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode())
            head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        if head.split(b" ")[1] != status:
            self.faults.append(f"spoilt headers, {spoilt}, were answered {head!r}")
