"""WebSockets by HTTP/2 (RFC 8441), which Hypercorn serves."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from tests.support.asgi_setups import HYPERCORN
from tests.support.setups import EVERYWHERE

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.raw import encode_close, encode_message

from .ours import OurServers


class Client:
    """A client that asks for one WebSocket, without TLS: by prior knowledge."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._http.initiate_connection()
        self._stream = 0
        self._events: Iterator[h2.events.Event] = iter(())

    def settings(self) -> bool:
        """Whether the server offers the extended CONNECT."""
        self._await(h2.events.RemoteSettingsChanged)
        return self._http.remote_settings.enable_connect_protocol == 1

    def connect(self, path: str, host: str) -> dict[str, str]:
        """Ask for a WebSocket; return the headers of the answer."""
        self._stream = self._http.get_next_available_stream_id()
        headers = {
            ":method": "CONNECT",
            ":protocol": "websocket",
            ":scheme": "http",
            ":path": path,
            ":authority": host,
            "sec-websocket-version": "13",
        }
        self._http.send_headers(self._stream, list(headers.items()))
        answered = self._await(h2.events.ResponseReceived)
        assert isinstance(answered, h2.events.ResponseReceived)
        return {str(name): str(value) for name, value in answered.headers or ()}

    def send(self, data: bytes) -> None:
        self._http.send_data(self._stream, data)

    def read(self, size: int) -> bytes:
        """Read as many bytes of frames."""
        data = b""
        while len(data) < size:
            event = self._await(h2.events.DataReceived)
            assert isinstance(event, h2.events.DataReceived)
            data += event.data or b""
        return data

    def _await(self, kind: type[h2.events.Event]) -> h2.events.Event:
        while True:
            for event in self._events:
                if isinstance(event, kind):
                    return event
            self._sock.sendall(self._http.data_to_send())
            data = self._sock.recv(65536)
            assert data, f"the connection ended before {kind.__name__}"
            self._events = iter(self._http.receive_data(data))


if EVERYWHERE:

    class TestHTTP2(OurServers):
        setups = (HYPERCORN,)

        @pytest.mark.parametrize("path", ["/echo", "/events/echo"])
        def test_a_websocket_is_a_stream_beside_others(self, launch: Launch, path: str) -> None:
            server = launch()
            with closing(server.dial_plain()) as sock:
                client = Client(sock)
                assert client.settings()
                assert client.connect(path, server.host)[":status"] == "200"
                client.send(encode_message("hello"))
                assert client.read(7) == b"\x81\x05hello"
                client.send(encode_close(4000))
                assert client.read(4) == b"\x88\x02\x0f\xa0"

        def test_a_refusal_has_its_status(self, launch: Launch) -> None:
            server = launch()
            with closing(server.dial_plain()) as sock:
                client = Client(sock)
                assert client.settings()
                assert client.connect("/forbidden", server.host)[":status"] == "401"
