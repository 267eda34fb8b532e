"""Channels within one process: the same on every server, for handlers and for event views."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .base import Subject
from .messages import connect_websockets
from .process import Server, wait_until
from .raw import Peer
from .setups import on_compression, on_main_or_unpatched, on_one_process

#: More subscribers than one batch of a broadcast.
MANY = 20


def subscribe(server: Server, peers: list[Peer], channel: str, kind: str, **kwargs: Any) -> Peer:
    peer = server.connect(f"/channels/{kind}/{channel}", **kwargs)
    peers.append(peer)
    assert peer.read() == "ready"
    return peer


def publish(server: Server, channel: str, count: int, size: int, path: str = "publish") -> Any:
    return server.get(f"/channels/{path}/{channel}/{count}/{size}")


@on_main_or_unpatched
@on_one_process
class Channels(Subject):
    """Channels within one process, for handlers and for event views."""

    @pytest.fixture
    def channel(self, server: Server) -> str:
        """A channel that no other test uses."""
        return server.tag()

    @pytest.mark.parametrize("path", ["publish", "publish-in-thread"])
    def test_every_subscriber_has_every_message_in_order(
        self, server: Server, peers: list[Peer], channel: str, path: str
    ) -> None:
        """Published by an HTTP view, or by a separate thread."""
        for number in range(MANY):
            subscribe(server, peers, channel, "handler" if number % 2 else "view")
        publish(server, channel, 30, 200, path)
        expected = [f"{number} ".ljust(200, "x") for number in range(30)]
        for peer in peers:
            assert [peer.read() for _ in range(30)] == expected
        for peer in peers:
            peer.close()

    @pytest.mark.parametrize("kind", ["handler", "view"])
    def test_what_one_sends_is_for_the_others(
        self, server: Server, peers: list[Peer], channel: str, kind: str
    ) -> None:
        one, other, third = (
            subscribe(server, peers, channel, each) for each in (kind, "handler", "view")
        )
        one.send("from one")
        assert [other.read(), third.read()] == ["from one"] * 2
        other.send(b"from the other")
        assert [one.read(), third.read()] == [b"from the other"] * 2

    @on_compression
    def test_compressed_publications_can_be_read(
        self, server: Server, peers: list[Peer], channel: str
    ) -> None:
        with connect_websockets(server, f"/channels/view/{channel}") as client:
            assert client.recv(timeout=5) == "ready"
            publish(server, channel, 10, 1000)
            for number in range(10):
                assert client.recv(timeout=5) == f"{number} ".ljust(1000, "x")

    @pytest.mark.parametrize("kind", ["handler", "view"])
    def test_who_does_not_read_is_closed_with_1013_and_delays_nobody(
        self, server: Server, peers: list[Peer], channel: str, kind: str
    ) -> None:
        beginning = server.log.size()
        stalled = subscribe(server, peers, channel, kind, receive_buffer=4096)
        readers = [subscribe(server, peers, channel, each) for each in ("handler", "view")]
        for _ in range(100):
            publish(server, channel, 1, 100_000)
            for reader in readers:
                assert len(reader.read()) == 100_000
            if "SOCK_MAX_OUTBOX" in server.log.read(beginning):
                break
        server.log.find(rf"/channels/{kind}/{channel}.*SOCK_MAX_OUTBOX", since=beginning)
        assert stalled.read_close(after="anything").close_code == 1013
        stalled.sock.close()

        def count() -> int:
            found = json.loads(publish(server, channel, 0, 1).body)["subscribers"]
            assert isinstance(found, int)
            return found

        wait_until(lambda: count() == 2, every=0.05)
