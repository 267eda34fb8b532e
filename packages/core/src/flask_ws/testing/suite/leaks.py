"""Connections that ended leave nothing behind."""

from __future__ import annotations

from .base import Subject
from .event_views import ended
from .process import Server, wait_until
from .raw import Peer
from .setups import on_frames, on_main


@on_main
class Leaks(Subject):
    """The numbers of descriptors and threads return to where they were."""

    def test_nothing_is_left_of_connections_that_ended(self, server: Server) -> None:
        server.warm_up()
        fds, threads = server.usage().fds, server.threads()
        for number in range(20):
            peer = server.connect()
            assert peer.echo("hello") == "hello"
            end(peer, number)

        wait_until(lambda: server.usage().fds <= fds, what="descriptors to be freed")
        wait_until(lambda: server.threads() <= threads, what="threads to end")

    @on_frames
    def test_connections_given_up_are_closed(self, server: Server) -> None:
        server.warm_up("/pinged")
        before = server.usage().fds
        tags = [server.tag() for _ in range(5)]
        peers = [server.connect("/pinged", tag=tag) for tag in tags]
        try:
            for tag in tags:
                server.log.event("end", tag)
            wait_until(lambda: server.usage().fds <= before, what="descriptors to be freed")
        finally:
            for peer in peers:
                peer.sock.close()

    def test_nothing_is_left_of_views_whose_connections_ended(self, server: Server) -> None:
        server.warm_up("/events/echo")
        before = wait_until(server.usage)
        for number in range(20):
            tag = server.tag()
            peer = server.connect("/events/echo", tag=tag)
            assert peer.echo("hello") == "hello"
            end(peer, number)
            ended(server, tag)

        def is_back() -> bool:
            now = server.usage()
            return now.fds <= before.fds and now.threads <= before.threads

        wait_until(is_back, timeout=10, what="descriptors and threads to be freed")


def end(peer: Peer, number: int) -> None:
    """End a connection, in one of four ways."""
    if number % 4 == 0:
        peer.close()
    elif number % 4 == 1:
        peer.reset()
    elif number % 4 == 2:
        peer.send_bytes(b"\xff\xff\xff")
    peer.sock.close()
