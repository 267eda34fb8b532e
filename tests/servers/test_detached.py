"""Blocking handlers on servers that have few workers: on threads of flask-ws's own."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from tests.support.setups import OurSetup, on

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.event_views import await_idle_threads
from flask_ws.testing.suite.process import Server
from flask_ws.testing.suite.raw import Peer

from .ours import OurServers

CLIENTS = 1000
REQUESTS = 100
#: The app under test, and a handler whose request tells of its end.
APP = "detached:app"


def measure(server: Server) -> float:
    """The 99th percentile of the seconds that a GET takes."""
    times = []
    for _ in range(REQUESTS):
        started = time.perf_counter()
        assert server.get("/http").text == "http"
        times.append(time.perf_counter() - started)
    return sorted(times)[REQUESTS * 99 // 100 - 1]


def exchange(peers: list[Peer], message: str) -> None:
    for peer in peers:
        peer.send(message)
    for peer in peers:
        assert peer.read() == message


@on(lambda setup: setup.name in ("gunicorn-threads", "gunicorn-sync", "werkzeug-unthreaded"))
class TestDetached(OurServers):
    """Setups whose handlers leave the server's worker."""

    @pytest.fixture
    def few(self, setup: OurSetup) -> OurSetup:
        """A server with four threads, or one."""
        command = setup.command.replace("--threads 100", "--threads 4")
        return replace(setup, command=command)

    @pytest.mark.slow
    def test_a_thousand_clients_are_served_beside_http_until_the_server_stops(
        self, launch_other: Launch, few: OurSetup, peers: list[Peer]
    ) -> None:
        server = launch_other(few, app=APP)
        alone = measure(server)
        for _ in range(CLIENTS):
            peers.append(server.connect())
        exchange(peers, "before")
        beside = measure(server)
        exchange(peers, "after")
        # As fast as without them, but for what a busy machine does to one of a hundred.
        assert beside < 3 * alone + 0.05

        began = time.monotonic()
        server.signal(few.stop_signal)
        for peer in peers:
            assert peer.read_close().close_code == 1001
            peer.send_close(1001)
        for peer in peers:
            peer.expect_end(5)
        server.wait()
        assert time.monotonic() - began < 3 + 2

    @on(lambda setup: setup.gunicorn)
    def test_a_handler_at_work_has_the_graceful_timeout_of_gunicorn(
        self, launch_other: Launch, few: OurSetup, peers: list[Peer]
    ) -> None:
        """And is waited for no longer than it takes, by default."""
        server, tag = launch_other(few, app=APP), "busy"
        peers.append(server.connect("/finish", tag=tag))
        server.log.event("begin", tag)
        server.signal(few.stop_signal)
        assert peers[0].answer_close().close_code == 1001
        server.log.event("finished", tag)
        server.wait()

    def test_teardown_functions_run_when_the_handler_ends(
        self, launch_other: Launch, few: OurSetup, peers: list[Peer]
    ) -> None:
        server, tag = launch_other(few, app=APP), "torn"
        peers.append(server.connect("/teardown", tag=tag))
        thread = peers[0].read()
        assert peers[0].echo("hello") == "hello"
        assert server.await_access_line(tag) == 101
        assert "torn down" not in server.log.read()
        peers[0].close()
        ended = server.log.event("torn down", tag)
        assert (ended["done"], ended["thread"]) == (True, thread)
        server.stop()
        assert server.log.read().count("torn down") == 1

    def test_handlers_stay_in_the_worker_if_the_app_says_so(
        self, launch_other: Launch, few: OurSetup, peers: list[Peer]
    ) -> None:
        """One more client than the worker has threads waits until there is room."""
        server = launch_other(
            few, app=APP, environ={"LIVE_CONFIG": json.dumps({"SOCK_DETACH": False})}
        )
        for _ in range(4 if "--threads" in few.command else 1):
            peers.append(server.connect())
            assert peers[-1].echo("hello") == "hello"
        with server.dial() as other:
            other.send_request("/http", headers=[("Connection", "close")])
            other.expect_silence(0.3)
            peers[0].close()
            assert other.read_response().text == "http"

    def test_past_max_threads_event_views_are_served(
        self, launch: Launch, peers: list[Peer]
    ) -> None:
        server = launch(environ={"LIVE_CONFIG": json.dumps({"SOCK_MAX_THREADS": 1})})
        peers.append(server.connect())
        for _ in range(3):
            peers.append(server.connect("/events/echo"))
        assert [peer.echo("hello") for peer in peers] == ["hello"] * 4

    def test_idle_event_views_need_no_threads(
        self, launch_other: Launch, few: OurSetup, peers: list[Peer]
    ) -> None:
        """500 of them, and HTTP beside them."""
        server = launch_other(few)
        peers += [server.connect("/events/echo") for _ in range(500)]
        for peer in peers[::50]:
            assert peer.echo("hello") == "hello"
        assert server.get("/http").text == "http"
        assert len(await_idle_threads(server)) <= 12
