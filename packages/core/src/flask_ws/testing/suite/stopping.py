"""Servers that stop: clients get a close frame, handlers end, nothing waits for long."""

from __future__ import annotations

import json
import signal
import time

from .base import Launch, Subject
from .process import Server
from .raw import Peer
from .setups import Setup, on_few_workers, on_graceful_stop, on_limited_stop, on_main

#: Seconds until a client gets the close frame: one, and two for a loaded machine.
SOON = 1.0 + 2.0
#: Seconds from the end of the last handler to the end of the process.
GONE = 2.0 + 2.0
#: Close codes of a server that stops (1001) or restarts (1012).
GOODBYES = (1001, 1012)


def open_some(server: Server, peers: list[Peer], per_kind: int = 2) -> list[str]:
    """Connect to handlers that receive, handlers that wait elsewhere, and event views."""
    tags = []
    for path in ("/echo", "/until-lost", "/events/echo") * per_kind:
        tags.append(server.tag())
        peers.append(server.connect(path, tag=tags[-1]))
        server.log.event("begin", tags[-1])
    # Ctrl-C at the wrong moment is lost or does harm: while Werkzeug hands a new connection to a
    # thread, it closes that connection; while gevent closes files, Python drops the exception.
    server.settle()
    return tags


def tidy(server: Server, peers: list[Peer], seconds: float) -> str:
    """Open a connection whose handler keeps running after its end; returns its tag."""
    tag = server.tag()
    peers.append(server.connect(f"/tidy/{seconds}", tag=tag))
    server.log.event("begin", tag)
    server.settle()
    return tag


def expect_goodbye(peers: list[Peer], began: float, soon: float = SOON) -> None:
    # All close frames are answered before any end is awaited: a server does not wait for long.
    for peer in peers:
        frame = peer.read_close()
        assert frame.close_code in GOODBYES
        assert time.monotonic() - began < soon
        peer.send_close(frame.close_code)
    for peer in peers:
        peer.expect_end()


def expect_handlers_to_end(server: Server, tags: list[str]) -> None:
    for tag in tags:
        end = server.log.event("end", tag)
        # Ctrl-C may be raised in a greenlet's handler, which then ends before its connection.
        assert end["connected"] is False or str(end.get("error")).startswith("KeyboardInterrupt")
        # An event view counts the calls of on_close.
        assert end.get("times", 1) == 1


def stop(server: Server, peers: list[Peer], number: signal.Signals) -> None:
    tags = open_some(server, peers, 2 * server.setup.capabilities.processes)
    began = time.monotonic()
    server.signal(number)
    expect_goodbye(peers, began, server.allowed(SOON))
    expect_handlers_to_end(server, tags)
    ended = time.monotonic()
    server.wait()
    assert time.monotonic() - ended < server.allowed(GONE)


@on_graceful_stop
class Stopping(Subject):
    """Clients get a close frame, handlers end, nothing waits for long."""

    def test_stopping_server_says_goodbye_and_is_gone(
        self, launch: Launch, setup: Setup, peers: list[Peer]
    ) -> None:
        stop(launch(), peers, setup.stop_signal)

    @on_main
    def test_handler_learns_that_the_server_stops(
        self, launch: Launch, setup: Setup, peers: list[Peer]
    ) -> None:
        server = launch()
        tag = server.tag()
        peers.append(server.connect(tag=tag))
        server.log.event("begin", tag)
        server.settle()
        server.signal(setup.stop_signal)
        expect_goodbye(peers, time.monotonic(), server.allowed(SOON))
        end = server.log.event("end", tag)
        assert (end["error"], end["code"]) == ("ConnectionClosed", 1001)

    @on_main
    def test_peer_that_ignores_the_goodbye_does_not_hold_up_the_stop(
        self, launch: Launch, setup: Setup, peers: list[Peer]
    ) -> None:
        """The app's close_timeout is 2 s."""
        server = launch()
        open_some(server, peers)
        began = time.monotonic()
        server.signal(setup.stop_signal)
        server.wait()
        assert time.monotonic() - began < 2 + server.allowed(GONE) + SOON

    @on_few_workers
    def test_stopping_server_says_goodbye_to_handlers_in_its_workers(
        self, launch: Launch, setup: Setup, peers: list[Peer]
    ) -> None:
        """The app has `SOCK_DETACH = False`, and the server waits for its workers."""
        server = launch(environ={"LIVE_CONFIG": json.dumps({"SOCK_DETACH": False})})
        tag = server.tag()
        peers.append(server.connect(tag=tag))
        server.log.event("begin", tag)
        server.settle()
        began = time.monotonic()
        server.signal(setup.stop_signal)
        expect_goodbye(peers, began, server.allowed(SOON))
        expect_handlers_to_end(server, [tag])
        server.wait()
        assert time.monotonic() - began < SOON + server.allowed(GONE)

    @on_main
    def test_handler_has_time_to_tidy_up(
        self, launch: Launch, setup: Setup, peers: list[Peer]
    ) -> None:
        """One second, which is less than the server waits."""
        server = launch()
        tag = tidy(server, peers, 1)
        server.signal(setup.stop_signal)
        expect_goodbye(peers, time.monotonic(), server.allowed(SOON))
        server.log.event("tidied", tag)
        server.wait()

    @on_main
    @on_limited_stop
    def test_handler_without_end_holds_up_the_stop_no_longer_than_declared(
        self, launch: Launch, setup: Setup, peers: list[Peer]
    ) -> None:
        server = launch()
        tidy(server, peers, 1000)
        began = time.monotonic()
        server.signal(setup.stop_signal)
        expect_goodbye(peers, began, server.allowed(SOON))
        server.wait(setup.capabilities.stop_seconds + SOON + server.allowed(GONE))

    @on_main
    def test_server_without_connections_stops_at_once(self, launch: Launch, setup: Setup) -> None:
        server = launch()
        with server.connect() as peer:
            peer.close()
        server.await_done(server.opened[0])
        began = time.monotonic()
        server.signal(setup.stop_signal)
        server.wait()
        assert time.monotonic() - began < server.allowed(GONE)
