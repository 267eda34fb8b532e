"""Limits: how many connections a process accepts, and how it refuses more."""

from __future__ import annotations

import json

from .base import Launch, Subject
from .process import Server, wait_until
from .raw import Peer, Response, handshake_headers, make_key
from .setups import on_blocking, on_denials, on_few_workers, on_main, on_one_process


def try_handshake(server: Server) -> Response:
    with server.dial() as peer:
        peer.send_request("/echo", headers=handshake_headers(make_key()))
        return peer.read_head()


def fill(launch: Launch, peers: list[Peer], name: str) -> Server:
    server = launch(environ={"LIVE_CONFIG": json.dumps({name: 3})})
    # No wait is needed: a connection counts as soon as its 101 is sent.
    peers.extend(server.connect() for _ in range(3))
    return server


def assert_full(server: Server, peers: list[Peer]) -> None:
    response = try_handshake(server)
    assert response.status == 503
    assert int(response.get("Retry-After") or 0) > 0
    # HTTP requests and open connections are still served.
    assert server.get("/http").text == "http"
    assert [peer.echo("still") for peer in peers] == ["still"] * 3


class Limits(Subject):
    """How many connections a process accepts, and how it refuses more."""

    @on_main
    @on_one_process
    @on_denials
    def test_past_max_connections_a_handshake_gets_503(
        self, launch: Launch, peers: list[Peer]
    ) -> None:
        server = fill(launch, peers, "SOCK_MAX_CONNECTIONS")
        assert_full(server, peers)
        with peers.pop() as peer:
            peer.close()
        wait_until(lambda: try_handshake(server).status == 101, what="room for one more")

    @on_main
    @on_blocking
    @on_few_workers
    @on_one_process
    @on_denials
    def test_past_max_threads_a_handshake_gets_503(self, launch: Launch, peers: list[Peer]) -> None:
        server = fill(launch, peers, "SOCK_MAX_THREADS")
        assert_full(server, peers)
        with peers.pop() as peer:
            peer.close()
        wait_until(lambda: try_handshake(server).status == 101, what="room for one more")
