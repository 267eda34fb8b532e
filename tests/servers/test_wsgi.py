"""Between Flask and a real server: middleware, headers, and what makes a request a handshake."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from tests.support.setups import on

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.handshake import ask
from flask_ws.testing.suite.process import Server
from flask_ws.testing.suite.raw import Header, Peer, handshake_headers, make_key
from flask_ws.testing.suite.setups import on_main

from .ours import OurServers

HEADERS = {
    "not latin-1": "X-User=Łukasz",
    "line break in a name": "X-User\r\nX-Other=a",
    "NUL in a value": "X-User=a\0b",
}
LENGTHS = {
    "sign": ["+0"],
    "underscore": ["0_0"],
    "twice": ["0", "0"],
    "twice, and not the same": ["5", "0"],
    "a body": ["5"],
}


@on_main
class TestWSGI(OurServers):
    @pytest.mark.parametrize("checker", ["wsgiref", "werkzeug"])
    def test_checkers_of_wsgi_find_no_fault_around_or_inside(
        self, launch: Launch, peers: list[Peer], checker: str
    ) -> None:
        """On both sides at once, of handlers and event views."""
        server = launch(environ={"LIVE_CHECKER": checker})
        for path in ("/echo", "/events/echo"):
            peers.append(server.connect(path))
            assert peers[-1].echo("hello") == "hello"
            peers[-1].close()
        assert ask(server, handshake_headers(make_key(), version="8")).status in (400, 426)
        assert server.get("/http").text == "http"

    @pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
    def test_a_101_that_cannot_be_sent_is_a_500_and_harms_nobody(
        self, server: Server, peers: list[Peer], header: str
    ) -> None:
        peers.append(server.connect("/echo"))
        peers.append(server.connect("/events/echo"))
        for path in ("/echo", "/events/echo"):
            target = f"{path}?header={quote(header)}"
            assert ask(server, handshake_headers(make_key()), target=target).status == 500
        assert [peer.echo("hello") for peer in peers] == ["hello"] * 2
        assert server.get("/http").text == "http"

    def test_connection_and_upgrade_of_the_app_are_not_on_the_101(self, server: Server) -> None:
        with server.connect("/echo?header=Connection=close&header=Upgrade=h2c") as peer:
            assert peer.response is not None
            names = [name.lower() for name, _ in peer.response.headers]
            assert (names.count("connection"), names.count("upgrade")) == (1, 1)
            assert peer.echo("hello") == "hello"
            peer.close()

    @pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
    def test_a_length_other_than_one_zero_is_refused(
        self, server: Server, lengths: list[str]
    ) -> None:
        extra: list[Header] = [("Content-Length", length) for length in lengths]
        body = bytes(max(map(int, lengths)))
        headers = handshake_headers(make_key(), extra=extra)
        assert ask(server, headers, body=body).status == 400

    @pytest.mark.parametrize("hosts", [[], [""], ["a", "b"]], ids=["none", "empty", "two"])
    def test_a_request_without_one_host_is_refused(self, server: Server, hosts: list[str]) -> None:
        lines = [f"Host: {host}" for host in hosts]
        lines += [f"{name}: {value}" for name, value in handshake_headers(make_key())]
        with server.dial() as peer:
            head = "\r\n".join(["GET /echo HTTP/1.1", *lines, "", ""])
            peer.send_bytes(head.encode())
            assert peer.read_head().status == 400

    def test_a_request_of_http_1_0_is_refused(self, server: Server) -> None:
        lines = [f"Host: {server.host}"]
        lines += [f"{name}: {value}" for name, value in handshake_headers(make_key())]
        with server.dial() as peer:
            head = "\r\n".join(["GET /echo HTTP/1.0", *lines, "", ""])
            peer.send_bytes(head.encode())
            assert peer.read_head().status == 400

    @on(lambda setup: not setup.tls)
    def test_past_the_descriptors_a_handshake_is_refused_and_the_server_lives(
        self, launch: Launch, peers: list[Peer]
    ) -> None:
        server = launch(environ={"LIVE_DESCRIPTORS": "128"})
        statuses: list[int] = []
        while statuses.count(503) < 20:
            assert len(statuses) < 200
            peer = server.dial()
            key = make_key()
            peer.send_request("/events/echo", headers=handshake_headers(key))
            statuses.append(peer.read_head().status)
            if statuses[-1] == 101:
                peers.append(peer)
            else:
                peer.sock.close()
        assert statuses.count(101) > 50
        assert server.get("/http").text == "http"
        assert [peer.echo("hello") for peer in peers] == ["hello"] * len(peers)
        assert "(ulimit -n)" in server.log.read()
