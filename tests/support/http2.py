"""HTTP/2 for clients that speak HTTP/1.1: each of their connections becomes one of HTTP/2.

A WebSocket is asked for by an extended CONNECT (RFC 8441), and its bytes are those of the stream.
A client that ends TCP ends the connection to the server, too: by FIN, or by RST. A server may leave
the stream open after the closing handshake: the bridge ends it then, as browsers do in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from flask_ws.testing.suite.raw import CLOSE, Header, make_accept

#: The most bytes that wait for the other side, beside what the kernel and HTTP/2 have.
WAITING = 16384
#: Seconds for what the server has sent to reach the client, when the server is gone.
LAST = 1.0
#: Headers that HTTP/2 has no use for.
OF_HTTP1 = frozenset({"connection", "upgrade", "host", "sec-websocket-key"})

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bridge:
    """Passes on what clients say to a server of HTTP/2.

    :param port: where clients connect.
    :param server: the port of the server.
    :param context: its TLS, or ``None``.
    """

    def __init__(self, port: int, server: int, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._server = server
        self._context = context
        if context is not None:
            context.set_alpn_protocols(["h2"])
        self._connections: set[asyncio.Task[None]] = set()

    def start(self) -> Callable[[], None]:
        """Listen, in another thread; returns what ends that."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="HTTP/2", daemon=True)
        thread.start()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._serve, "127.0.0.1", self._port, limit=WAITING)

        async def end() -> None:
            listening.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

        listening = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)

        def stop() -> None:
            asyncio.run_coroutine_threadsafe(end(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

        return stop

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writer.transport.set_write_buffer_limits(0)
        try:
            there = await asyncio.open_connection(
                "127.0.0.1",
                self._server,
                ssl=self._context,
                server_hostname=None if self._context is None else "localhost",
            )
            await Connection((reader, writer), there, self._context is not None).run()
        except ConnectionError:
            # The server does not listen any more.
            abort(writer)
        finally:
            writer.close()
            self._connections.discard(task)


def abort(writer: asyncio.StreamWriter) -> None:
    """End TCP by RST."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Frames:
    """What one side sends, as far as it shows whether there was a close frame."""

    def __init__(self) -> None:
        self.has_closed = False
        self._head = b""
        # Bytes of the payload that are still to come.
        self._rest = 0

    def feed(self, data: bytes) -> None:
        while data and not self.has_closed:
            passed = min(self._rest, len(data))
            self._rest -= passed
            data = data[passed:]
            if data:
                self._head, data = self._head + data[:1], data[1:]
                self._read_head()

    def _read_head(self) -> None:
        """Read the head of a frame, if it is whole by now."""
        if len(self._head) < 2:
            return
        size = self._head[1] & 0x7F
        more = {126: 2, 127: 8}.get(size, 0)
        if len(self._head) < 2 + more:
            return
        self._rest = int.from_bytes(self._head[2:], "big") if more else size
        self._rest += 4 * (self._head[1] >> 7)
        self.has_closed = self._head[0] & 0x0F == CLOSE
        self._head = b""


class Connection:
    """One client's connection, and the one to the server.

    :param client: what the client sends, and what it is sent.
    :param server: the same of the server.
    :param tls: whether the server has TLS.
    """

    def __init__(self, client: Streams, server: Streams, tls: bool) -> None:
        self._client, self._client_writer = client
        self._server, self._server_writer = server
        self._scheme = "https" if tls else "http"
        self._http = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="latin-1", normalize_outbound_headers=False)
        )
        # Set whenever the server has said something.
        self._said = asyncio.Event()
        self._knows_settings = self._is_reset = False
        self._head: list[Header] | None = None
        # The body, in parts, and None for its end.
        self._body: asyncio.Queue[h2.events.DataReceived | None] = asyncio.Queue()

    async def run(self) -> None:
        """Serve the client until one of the two ends TCP."""
        self._http.initiate_connection()
        self._flush()
        reading = asyncio.ensure_future(self._read_server())
        serving = asyncio.ensure_future(self._serve_client())
        try:
            await asyncio.wait({reading, serving}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                self._body.put_nowait(None)
                await asyncio.wait({serving}, timeout=LAST)
            if is_lost(reading) or self._is_reset:
                abort(self._client_writer)
            elif is_lost(serving):
                abort(self._server_writer)
        finally:
            reading.cancel()
            serving.cancel()
            await asyncio.gather(reading, serving, return_exceptions=True)
            self._server_writer.close()

    # The server

    def _flush(self) -> None:
        self._server_writer.write(self._http.data_to_send())

    async def _read_server(self) -> None:
        while data := await self._server.read(65536):
            for event in self._http.receive_data(data):
                if isinstance(event, h2.events.RemoteSettingsChanged):
                    self._knows_settings = True
                elif isinstance(event, h2.events.ResponseReceived):
                    self._head = [(str(name), str(text)) for name, text in event.headers or ()]
                elif isinstance(event, h2.events.DataReceived):
                    self._body.put_nowait(event)
                elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                    self._is_reset = isinstance(event, h2.events.StreamReset)
                    self._body.put_nowait(None)
            self._said.set()
            self._flush()

    async def _await(self, is_there: Callable[[], object]) -> None:
        while not is_there():
            self._said.clear()
            await self._said.wait()

    async def _send(self, stream: int, data: bytes) -> None:
        while data:
            await self._await(lambda: self._http.local_flow_control_window(stream) > 0)
            window = self._http.local_flow_control_window(stream)
            size = min(window, self._http.max_outbound_frame_size)
            self._http.send_data(stream, data[:size])
            data = data[size:]
            self._flush()
            await self._server_writer.drain()

    # The client

    async def _serve_client(self) -> None:
        while True:
            try:
                request = await self._client.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            line, *lines = request.decode("latin-1").split("\r\n")[:-2]
            method, target, _ = line.split(" ")
            headers = []
            for each in lines:
                name, _, text = each.partition(":")
                headers.append((name.lower(), text.strip()))
            await self._await(lambda: self._knows_settings)
            told = dict(headers)
            if told.get("upgrade", "").lower() == "websocket":
                await self._pass_websocket(target, headers)
                return
            await self._pass_request(method, target, headers)
            if told.get("connection", "").lower() == "close":
                return

    def _ask(self, target: str, headers: list[Header], **pseudo: str) -> int:
        """Begin a stream; the client's next answer is that to it."""
        stream = self._http.get_next_available_stream_id()
        self._head = None
        self._http.send_headers(
            stream,
            [
                *((f":{name}", text) for name, text in pseudo.items()),
                (":scheme", self._scheme),
                (":path", target),
                (":authority", dict(headers)["host"]),
                *(header for header in headers if header[0] not in OF_HTTP1),
            ],
        )
        self._flush()
        return stream

    async def _pass_request(self, method: str, target: str, headers: list[Header]) -> None:
        stream = self._ask(target, headers, method=method)
        size = int(dict(headers).get("content-length", "0"))
        await self._send(stream, await self._client.readexactly(size))
        self._http.end_stream(stream)
        self._flush()
        head = await self._await_head()
        is_chunked = "content-length" not in head
        self._write_head(head.pop(":status"), *[("Transfer-Encoding", "chunked")] * is_chunked)
        async for data in self._parts():
            await self._write(b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data)
        if is_chunked:
            await self._write(b"0\r\n\r\n")

    async def _pass_websocket(self, target: str, headers: list[Header]) -> None:
        stream = self._ask(target, headers, method="CONNECT", protocol="websocket")
        sent = Frames()
        up = asyncio.ensure_future(self._pass_up(stream, sent))
        down = asyncio.ensure_future(self._pass_down(dict(headers)["sec-websocket-key"], sent))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if down.done():
                down.result()
            # The client may go on after the end of the stream.
            await up
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pass_up(self, stream: int, sent: Frames) -> None:
        while data := await self._client.read(WAITING):
            await self._await_head()
            sent.feed(data)
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                await self._send(stream, data)
        self._http.close_connection()
        self._flush()

    async def _pass_down(self, key: str, sent: Frames) -> None:
        head = await self._await_head()
        status = head[":status"]
        if status == "200":
            self._write_head(
                "101",
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", make_accept(key)),
            )
        else:
            self._write_head(status, ("Connection", "close"))
        received = Frames()
        async for data in self._parts():
            await self._write(data)
            received.feed(data)
            if received.has_closed and sent.has_closed:
                break
        if not self._is_reset:
            self._client_writer.write_eof()

    async def _await_head(self) -> dict[str, str]:
        await self._await(lambda: self._head or self._is_reset)
        if self._head is None:
            raise ConnectionResetError
        return dict(self._head)

    def _write_head(self, status: str, *more: Header) -> None:
        assert self._head is not None
        headers = [header for header in self._head if header[0] != ":status"]
        lines = [f"{name}: {text}" for name, text in (*headers, *more)]
        head = "\r\n".join([f"HTTP/1.1 {status} ", *lines, "", ""])
        self._client_writer.write(head.encode("latin-1"))

    async def _parts(self) -> AsyncIterator[bytes]:
        """Return the body of the answer; what the client has taken is acknowledged."""
        while (part := await self._body.get()) is not None:
            if part.data:
                yield part.data
            if part.flow_controlled_length:
                self._http.acknowledge_received_data(
                    part.flow_controlled_length, part.stream_id or 0
                )
                self._flush()

    async def _write(self, data: bytes) -> None:
        self._client_writer.write(data)
        await self._client_writer.drain()


def is_lost(task: asyncio.Future[None]) -> bool:
    """Tell whether a task has ended by RST."""
    return task.done() and isinstance(task.exception(), ConnectionResetError)
