"""The clients of ``flask ws load``: many connections on one asyncio loop, and what they see."""

from __future__ import annotations

import asyncio
import base64
import math
import os
import random
import ssl
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult

from flask_ws.http.handshake import accept_value
from flask_ws.protocol.events import Close, Ping, Violation
from flask_ws.protocol.protocol import Protocol

from .handshake import Headers, make_target

__all__ = ["Latencies", "Load", "Plan"]

#: Seconds that clients are given to say goodbye.
FAREWELL = 5.0
#: Seconds that a connection may take to open, and then the answer to its handshake.
PATIENCE = 30.0
#: Bytes that the answer to a handshake may have.
MOST_HEAD = 2**16
#: The resolution of latencies.
STEP = math.log(1.02)
#: The shortest that is told from others, in seconds.
SHORTEST = 1e-6


@dataclass(frozen=True)
class Plan:
    """What the clients are to do."""

    url: SplitResult
    headers: Headers
    #: How many there are, and how many are opened in a second.
    clients: int
    opening: float
    #: Messages that each sends in a second; and for how many seconds, once all are open.
    rate: float
    duration: float
    message: str
    #: For ``wss``.
    context: ssl.SSLContext | None = None


class Latencies:
    """How long answers took: how many of each length, to two per cent."""

    def __init__(self) -> None:
        self._found: Counter[int] = Counter()
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._found[int(math.log(max(seconds, SHORTEST) / SHORTEST) / STEP)] += 1
        self.longest = max(self.longest, seconds)

    def percentile(self, percent: float) -> float:
        """Return the seconds that so many per cent did not exceed; 0 if there are none."""
        left = sum(self._found.values()) * percent / 100
        for step, number in sorted(self._found.items()):
            left -= number
            if left <= 0:
                return min(self.longest, SHORTEST * math.exp((step + 1) * STEP))
        return 0.0


class Load:
    """A load test.

    :param plan: what to do.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        #: Clients that are connected, and all that were; and seconds until the last was.
        self.open = self.opened = 0
        self.opening_seconds = 0.0
        #: Handshakes that failed, by status or error; connections that ended early, by code.
        self.failed: Counter[str] = Counter()
        self.dropped: Counter[int] = Counter()
        self.sent = self.received = 0
        self.latencies = Latencies()
        #: How late messages were sent: this machine is busy, or there are too many for it.
        self.lateness = Latencies()
        self.seconds = 0.0
        #: Whether the clients are to send, and not to say goodbye.
        self.running = True

    async def run(self, tell: Callable[[Load, float], object]) -> None:
        """Run it.

        :param tell: called each second, with this object and the seconds since the beginning.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        telling = loop.create_task(self._tell(tell, began))
        clients: list[Client] = []
        opening: list[asyncio.Task[None]] = []
        try:
            for number in range(self.plan.clients):
                await asyncio.sleep(began + number / self.plan.opening - loop.time())
                client = Client(self, loop)
                clients.append(client)
                opening.append(loop.create_task(self._open(client)))
            await asyncio.gather(*opening)
            self.opening_seconds = loop.time() - began
            if self.open:
                await asyncio.sleep(self.plan.duration)
            self._stop(began)
            for client in clients:
                client.say_goodbye()
            until = loop.time() + FAREWELL
            while self.open and loop.time() < until:
                await asyncio.sleep(0.02)
        finally:
            self._stop(began)
            telling.cancel()
            for client in clients:
                client.abort()

    def _stop(self, began: float) -> None:
        if self.running:
            self.running = False
            self.seconds = asyncio.get_running_loop().time() - began

    async def _open(self, client: Client) -> None:
        url, context = self.plan.url, self.plan.context
        port = url.port or (443 if context else 80)
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(lambda: client, url.hostname or "", port, ssl=context)
        try:
            await asyncio.wait_for(connecting, PATIENCE)
        # Until Python 3.11 they are two.
        except (OSError, asyncio.TimeoutError) as error:
            self.failed[type(error).__name__] += 1
            return
        await asyncio.wait([client.answered], timeout=PATIENCE)
        if not client.answered.done():
            client.fail("no answer")

    async def _tell(self, tell: Callable[[Load, float], object], began: float) -> None:
        while True:
            await asyncio.sleep(1)
            tell(self, asyncio.get_running_loop().time() - began)


class Client(asyncio.Protocol):
    """One of the clients.

    :param load: what it belongs to.
    :param loop: the loop.
    """

    def __init__(self, load: Load, loop: asyncio.AbstractEventLoop) -> None:
        self._load = load
        self._loop = loop
        #: Done when the handshake was answered, or will not be.
        self.answered: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._key = base64.b64encode(os.urandom(16)).decode()
        self._head = b""
        self._protocol: Protocol | None = None
        # When the messages were to be sent that have no answer yet.
        self._waiting: deque[float] = deque()
        self._code: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        url = self._load.plan.url
        headers = [
            ("Host", url.netloc.rpartition("@")[2]),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._key),
            ("Sec-WebSocket-Version", "13"),
            *self._load.plan.headers,
        ]
        lines = [f"GET {make_target(url)} HTTP/1.1", *(f"{name}: {text}" for name, text in headers)]
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        """Act on what came."""
        if self._protocol is None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if end:
                self._read_head(head.decode("latin-1"))
            elif len(head) > MOST_HEAD:
                self.fail("no HTTP")
            if self._protocol is None:
                return
        event = self._protocol.next_event(data)
        while event is not None:
            if isinstance(event, (str, bytes)):
                self._load.received += 1
                if self._waiting:
                    self._load.latencies.add(self._loop.time() - self._waiting.popleft())
            elif isinstance(event, Ping):
                self._write(self._protocol.send_pong(event.payload))
            elif isinstance(event, (Close, Violation)):
                self._code = event.code
                self._write(self._protocol.send_close(event.code))
                self.abort(at_once=False)
                return
            event = self._protocol.next_event()

    def _read_head(self, head: str) -> None:
        status, *lines = head.split("\r\n")
        number = status.partition(" ")[2][:3]
        headers = {
            name.lower(): text.strip() for name, _, text in (s.partition(":") for s in lines)
        }
        if number != "101":
            self.fail(number or "no HTTP")
        elif headers.get("sec-websocket-accept") != accept_value(self._key):
            self.fail("a wrong 101")
        else:
            self._protocol = Protocol(client=True, max_message_size=None)
            self._load.open += 1
            self._load.opened += 1
            self.answered.set_result(None)
            if self._load.plan.rate:
                # Not all clients at the same moment.
                interval = 1 / self._load.plan.rate
                first = self._loop.time() + random.random() * interval  # noqa: S311
                self._loop.call_at(first, self._send, first, interval)

    def fail(self, why: str) -> None:
        """Count that the handshake has failed."""
        self._load.failed[why] += 1
        self.answered.set_result(None)
        self.abort()

    def _send(self, due: float, interval: float) -> None:
        if not self._load.running or self._code is not None or self._protocol is None:
            return
        self._load.lateness.add(self._loop.time() - due)
        self._write(self._protocol.send_message(self._load.plan.message))
        self._load.sent += 1
        # From when it was to be sent: a server that is slow does not slow the clock down.
        self._waiting.append(due)
        self._loop.call_at(due + interval, self._send, due + interval, interval)

    def _write(self, buffers: list[bytes | bytearray | memoryview]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(buffers))

    def say_goodbye(self) -> None:
        """Send a close frame."""
        if self._protocol is not None:
            self._write(self._protocol.send_close(1000))

    def abort(self, *, at_once: bool = True) -> None:
        """End the connection."""
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Count how it ended."""
        if self._protocol is not None:
            self._load.open -= 1
            if self._load.running:
                self._load.dropped[self._code or 1006] += 1
            self._protocol = None
        elif not self.answered.done():
            self._load.failed["no answer"] += 1
            self.answered.set_result(None)
