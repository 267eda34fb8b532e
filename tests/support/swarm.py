"""Hundreds of WebSocket clients on one thread, each of which keeps account of what it gets."""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from flask_ws.testing.suite.process import Server, wait_until
from flask_ws.testing.suite.raw import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    build_request,
    encode_frame,
    handshake_headers,
    make_key,
)

#: More than anything here takes on a busy machine.
PATIENCE = 30.0


@dataclass
class Client:
    """A client that reads whatever comes."""

    channels: tuple[str, ...]
    sock: socket.socket
    #: The process of the server that it is connected to.
    pid: int = 0
    #: What came of the publications, by publisher: their numbers.
    numbers: dict[str, list[int]] = field(default_factory=dict)
    close_code: int | None = None
    buffer: bytearray = field(default_factory=bytearray)
    is_open: bool = False
    is_reading: bool = True
    published: threading.Event = field(default_factory=threading.Event)

    def take_frames(self) -> list[tuple[int, bytes]]:
        """Take the frames that are there; the server's are not masked, and not fragmented."""
        frames, buffer, start = [], self.buffer, 0
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1], 2
            if size == 126:
                size, head = int.from_bytes(buffer[start + 2 : start + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[start + 2 : start + 10], "big"), 10
            end = start + head + size
            if len(buffer) < end:
                break
            frames.append((buffer[start] & 0x0F, bytes(buffer[start + head : end])))
            start = end
        del buffer[:start]
        return frames


class Swarm:
    """Clients, and the thread that reads for them.

    A publication is a text: its publisher, a number, the time, and whatever.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients: list[Client] = []
        #: Seconds that each delivery took.
        self.latencies: list[float] = []
        #: Called with a client whose connection has ended.
        self.on_end: Callable[[Client], object] = lambda client: None
        self._selector = selectors.DefaultSelector()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def connect(self, subscriptions: Iterable[tuple[str, ...]], path: str = "/events/") -> None:
        """Connect clients, all at once, and wait until they are subscribed."""
        clients = [self.add(channels, path) for channels in subscriptions]
        wait_until(
            lambda: all(client.pid for client in clients), timeout=PATIENCE, what="the clients"
        )

    def add(self, channels: tuple[str, ...], path: str = "/events/") -> Client:
        """Connect a client."""
        sock = self.server.dial_plain(timeout=PATIENCE)
        client = Client(channels, sock)
        request = build_request(
            self.server.target(path + ",".join(channels), self.server.tag()),
            host=self.server.host,
            headers=handshake_headers(make_key()),
        )
        sock.sendall(request)
        self.clients.append(client)
        self._selector.register(sock, selectors.EVENT_READ, client)
        return client

    def publish(self, client: Client, channel: str, text: str) -> bool:
        """Have a client publish; returns whether it was done."""
        client.published.clear()
        with contextlib.suppress(OSError):
            client.sock.sendall(encode_frame(TEXT, f"{channel} {text}".encode()))
            return client.published.wait(PATIENCE)
        return False

    def close(self) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)
        for client in self.clients:
            client.sock.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            for key, _ in self._selector.select(0.05):
                client: Client = key.data
                try:
                    data = client.sock.recv(65536)
                except OSError:
                    data = b""
                if data:
                    client.buffer += data
                    self._read(client)
                else:
                    self._selector.unregister(client.sock)
                    client.sock.close()
                    client.close_code = client.close_code or 1006
                    self.on_end(client)

    def _read(self, client: Client) -> None:
        if not client.is_open:
            head, found, rest = bytes(client.buffer).partition(b"\r\n\r\n")
            if not found:
                return
            # What is no WebSocket is never ready.
            client.is_open = head.startswith(b"HTTP/1.1 101")
            client.buffer = bytearray(rest)
        now = time.monotonic()
        for opcode, payload in client.take_frames():
            if opcode == TEXT:
                self._take(client, payload, now)
            elif opcode == PING:
                client.sock.sendall(encode_frame(PONG, payload))
            elif opcode == CLOSE:
                client.close_code = int.from_bytes(payload[:2], "big")
                with contextlib.suppress(OSError):
                    client.sock.sendall(encode_frame(CLOSE, payload))

    def _take(self, client: Client, payload: bytes, now: float) -> None:
        words = payload.split(b" ", 3)
        if words[0] == b"ready":
            client.pid = int(words[1])
        elif words[0] == b"published":
            client.published.set()
        else:
            client.numbers.setdefault(words[0].decode(), []).append(int(words[1]))
            self.latencies.append(now - float(words[2]))


class Publisher:
    """Publishes numbers on one channel: by HTTP, on one connection, or as one of the clients.

    :param by: the client; ``None`` for HTTP.
    """

    def __init__(self, swarm: Swarm, name: str, channel: str, by: Client | None = None) -> None:
        self.swarm, self.channel, self.by = swarm, channel, by
        self.name = name
        #: What has been published, and in which process.
        self.done: list[int] = []
        self.pid = by.pid if by else 0
        self._number = 0
        self._http = http.client.HTTPConnection("127.0.0.1", swarm.server.port, timeout=PATIENCE)

    def publish(self, rest: str = "") -> bool:
        """Publish the next number, once; returns whether the server has said so."""
        number, self._number = self._number, self._number + 1
        text = f"{self.name} {number} {time.monotonic()} {rest}"
        if self.by is not None:
            is_done = self.swarm.publish(self.by, self.channel, text)
        else:
            is_done = self._post(text)
        if is_done:
            self.done.append(number)
        return is_done

    def _post(self, text: str) -> bool:
        try:
            self._http.request("POST", f"/publish/{self.channel}", text)
            response = self._http.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            return False
        assert response.status == 200, body
        self.pid = int(body)
        return True

    def close(self) -> None:
        self._http.close()
