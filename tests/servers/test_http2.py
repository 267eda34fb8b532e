"""WebSockets by HTTP/2 (RFC 8441), which Hypercorn serves: by TLS, as to browsers, and without.

An app passes the suite, whose clients speak HTTP/1.1, behind a bridge.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import ClassVar

import h2.config
import h2.connection
import h2.events
import pytest
from tests.support.asgi_setups import HYPERCORN, leave_out
from tests.support.http2 import Bridge
from tests.support.setups import EVERYWHERE, OurSetup

from flask_ws.testing import ServerSuite
from flask_ws.testing.suite.process import (
    START_SECONDS,
    Certificate,
    Order,
    Server,
    StartProcess,
    find_port,
    start_process,
    wait_until,
)
from flask_ws.testing.suite.raw import encode_close, encode_message

from .ours import OurServers

TLS = replace(
    HYPERCORN,
    name="hypercorn-tls",
    command=f"{HYPERCORN.command} --certfile {{cert}} --keyfile {{key}}",
    tls=True,
    main=False,
)


def dial(server: Server) -> socket.socket:
    """Connect, and agree on HTTP/2 by ALPN; without TLS the client knows it before."""
    sock = server.dial_plain()
    context = server.context()
    if context is None:
        return sock
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(sock, server_hostname="localhost")


class Client:
    """A client that asks for WebSockets and for pages, each of which is a stream."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        self._sock = sock
        self._scheme = "https" if isinstance(sock, ssl.SSLSocket) else "http"
        self._host = host
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()
        self._knows_settings = False
        self._statuses: dict[int, str] = {}
        self._data: defaultdict[int, bytes] = defaultdict(bytes)

    def offers_websockets(self) -> bool:
        """Whether the server's settings have the extended CONNECT."""
        while not self._knows_settings:
            self._go_on()
        return self._http.remote_settings.enable_connect_protocol == 1

    def connect(self, path: str) -> int:
        """Ask for a WebSocket; return its stream."""
        return self._ask("CONNECT", path, **{":protocol": "websocket"})

    def get(self, path: str) -> int:
        """Ask for a page; return its stream."""
        stream = self._ask("GET", path)
        self._http.end_stream(stream)
        return stream

    def _ask(self, method: str, path: str, **more: str) -> int:
        stream = self._http.get_next_available_stream_id()
        headers = {
            ":method": method,
            **more,
            ":scheme": self._scheme,
            ":path": path,
            ":authority": self._host,
            "sec-websocket-version": "13",
        }
        self._http.send_headers(stream, list(headers.items()))
        return stream

    def status(self, stream: int) -> str:
        """Await the answer on a stream."""
        while stream not in self._statuses:
            self._go_on()
        return self._statuses[stream]

    def send(self, stream: int, data: bytes) -> None:
        self._http.send_data(stream, data)

    def read(self, stream: int, size: int) -> bytes:
        """Read as many bytes of frames, or of a page."""
        while len(self._data[stream]) < size:
            self._go_on()
        data, self._data[stream] = self._data[stream][:size], self._data[stream][size:]
        return data

    def _go_on(self) -> None:
        """Send what there is to be sent, and take what has come."""
        self._sock.sendall(self._http.data_to_send())
        data = self._sock.recv(65536)
        assert data, "the connection ended"
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                self._knows_settings = True
            elif isinstance(event, h2.events.ResponseReceived):
                assert event.stream_id is not None
                headers = {str(name): str(value) for name, value in event.headers or ()}
                self._statuses[event.stream_id] = headers[":status"]
            elif isinstance(event, h2.events.DataReceived):
                assert event.stream_id is not None
                self._data[event.stream_id] += event.data or b""


#: HTTP/2 says 200 for what is 101 in HTTP/1.1.
BRIDGED = replace(
    HYPERCORN,
    name="hypercorn-h2",
    command=f"{HYPERCORN.command} --certfile {{cert}} --keyfile {{key}}",
    # Clients of the bridge have neither; the bridge has TLS with the server.
    capabilities=replace(HYPERCORN.capabilities, tls=False, unix_sockets=False),
    access_line=r"GET {target} (?:200|(\d+))",
)
BRIDGED_LOWEST = replace(BRIDGED, name="hypercorn-h2-lowest", environment="hypercorn==0.17.0")
UNLIMITED = "by HTTP/2 the server takes all that is sent to a client which does not read"

if EVERYWHERE:

    class TestSuiteByHTTP2(OurServers, ServerSuite):
        """All subjects."""

        setups = (BRIDGED, BRIDGED_LOWEST)
        leaves_out: ClassVar[Mapping[str, str]] = {
            **leave_out(setups),
            "test_who_does_not_read_is_closed_with_1013_and_delays_nobody": UNLIMITED,
            "test_stalled_reader_is_no_business_of_others": UNLIMITED,
        }

        @pytest.fixture(scope="session")
        @classmethod
        def start_server(cls, setup: OurSetup, certificate: Certificate) -> Iterator[StartProcess]:
            with contextlib.ExitStack() as bridges:

                def start_bridged(order: Order) -> subprocess.Popen[bytes]:
                    port = find_port()
                    address = f"127.0.0.1:{port}"
                    process = start_process(replace(order, bind=address, port=port))

                    def is_listening() -> bool:
                        with contextlib.suppress(ConnectionRefusedError):
                            socket.create_connection(("127.0.0.1", port)).close()
                            return True
                        return process.poll() is not None

                    wait_until(is_listening, timeout=START_SECONDS)
                    bridge = Bridge(order.port, port, certificate.client_context())
                    bridges.callback(bridge.start())
                    return process

                yield start_bridged


class TestHTTP2(OurServers):
    setups = (HYPERCORN, TLS)

    def test_websockets_and_a_page_share_a_connection(self, server: Server) -> None:
        with closing(dial(server)) as sock:
            client = Client(sock, server.host)
            assert client.offers_websockets()
            opened = [client.connect(path) for path in ("/echo", "/events/echo", "/async/echo")]
            for stream in opened:
                assert client.status(stream) == "200"
                client.send(stream, encode_message(f"hello {stream}"))
            page = client.get("/http")
            assert client.read(page, 4) == b"http"
            for stream in reversed(opened):
                text = f"hello {stream}".encode()
                assert client.read(stream, 2 + len(text)) == bytes([0x81, len(text)]) + text
                client.send(stream, encode_close(4000))
                assert client.read(stream, 4) == b"\x88\x02\x0f\xa0"

    def test_a_refusal_has_its_status(self, server: Server) -> None:
        with closing(dial(server)) as sock:
            client = Client(sock, server.host)
            assert client.status(client.connect("/forbidden")) == "401"
