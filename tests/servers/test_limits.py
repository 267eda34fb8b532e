"""Limits: what a process takes on, and what it says past that."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.support.raw import Peer, Response, handshake_headers, make_key
from tests.support.server import Server, wait_until
from tests.support.setups import on, on_main

from .conftest import Launch


def try_handshake(server: Server) -> Response:
    with server.dial() as peer:
        peer.send_request("/echo", headers=handshake_headers(make_key()))
        return peer.read_head()


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.sock.close()


def fill(launch: Launch, peers: list[Peer], name: str) -> Server:
    server = launch(environ={"LIVE_CONFIG": json.dumps({name: 3})})
    for _ in range(3):
        peers.append(server.connect())
        assert peers[-1].echo("hello") == "hello"
    return server


def assert_full(server: Server, peers: list[Peer]) -> None:
    response = try_handshake(server)
    assert response.status == 503
    assert int(response.get("Retry-After") or 0) > 0
    # HTTP goes on, and so do the connections that are there.
    assert server.get("/http").text == "http"
    assert [peer.echo("still") for peer in peers] == ["still"] * 3


@on_main
def test_past_max_connections_a_handshake_gets_503(launch: Launch, peers: list[Peer]) -> None:
    server = fill(launch, peers, "SOCK_MAX_CONNECTIONS")
    assert_full(server, peers)
    with peers.pop() as peer:
        peer.close()
    wait_until(lambda: try_handshake(server).status == 101, what="room for one more")


@on(lambda setup: setup.main and setup.gunicorn and not setup.green)
def test_past_max_threads_a_handshake_gets_503(launch: Launch, peers: list[Peer]) -> None:
    server = fill(launch, peers, "SOCK_MAX_THREADS")
    assert_full(server, peers)
    with peers.pop() as peer:
        peer.close()
    wait_until(lambda: try_handshake(server).status == 101, what="room for one more")
