"""What Gunicorn alone does: its arbiter, its counts and its own ways to stop a worker."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
from tests.support.setups import OurSetup, on

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.process import Server, wait_until
from flask_ws.testing.suite.raw import PING, Peer
from flask_ws.testing.suite.stopping import (
    GONE,
    SOON,
    expect_goodbye,
    expect_handlers_to_end,
    open_some,
)

from .ours import OurServers


@contextlib.contextmanager
def others_suspended(server: Server, worker: psutil.Process) -> Iterator[None]:
    """Leave all connections to one worker: the system may give them to any that accepts."""
    with contextlib.ExitStack() as stack:
        for other in server.processes()[1:]:
            if other != worker:
                other.suspend()
                stack.callback(other.resume)
        yield


class TestGunicorn(OurServers):
    @on(lambda setup: setup.gunicorn and setup.environment is None)
    def test_hup_says_goodbye_and_goes_on_with_new_workers(
        self, launch: Launch, setup: OurSetup, peers: list[Peer]
    ) -> None:
        server = launch()
        old = {process.pid for process in server.processes()[1:]}
        tags = open_some(server, peers)
        began = time.monotonic()
        server.signal(signal.SIGHUP)
        expect_goodbye(peers, began)
        expect_handlers_to_end(server, tags)
        wait_until(
            lambda: not any(psutil.pid_exists(pid) for pid in old),
            timeout=GONE + SOON,
            what="the old workers to end",
        )
        with server.connect() as peer:
            assert peer.echo("hello") == "hello"
            peer.close()

    @on(lambda setup: setup.gunicorn and setup.main)
    def test_max_requests_says_goodbye(
        self, launch: Launch, setup: OurSetup, peers: list[Peer]
    ) -> None:
        # One of them was the request that showed that the server is ready.
        server = launch(extra="--max-requests 7")
        (old,) = {process.pid for process in server.processes()[1:]}
        tags = open_some(server, peers, 1)
        began = time.monotonic()
        for _ in range(3):
            assert server.get("/http").text == "http"
        expect_goodbye(peers, began)
        expect_handlers_to_end(server, tags)
        wait_until(
            lambda: not psutil.pid_exists(old), timeout=GONE + SOON, what="the worker to end"
        )
        with server.connect() as peer:
            assert peer.echo("hello") == "hello"
            peer.close()

    @on(lambda setup: setup.gunicorn and setup.main)
    def test_gunicorns_count_of_connections_stays_right(self, launch: Launch) -> None:
        """A count that drifts upwards reaches `worker_connections`: no more are accepted."""
        server = launch(extra="--worker-connections 4")
        for number in range(24):
            path = "/events/echo" if number > 12 else "/echo"
            peer = server.connect("/close/1000" if number % 4 == 1 else path)
            if number % 4 == 0:
                peer.close()
            elif number % 4 == 1:
                peer.answer_close()
            elif number % 4 == 2:
                peer.reset()
            peer.sock.close()
            server.log.event("end", server.opened[-1])
        assert server.get("/http", timeout=3).text == "http"

    @on(lambda setup: setup.name in ("gunicorn-threads", "gunicorn-gevent", "gunicorn-eventlet"))
    @pytest.mark.parametrize("workers", [2])
    def test_preloaded_app_serves_in_every_child(
        self, launch: Launch, setup: OurSetup, workers: int
    ) -> None:
        """The monitor starts anew in each child: one that did not would send no ping.

        So does the reactor: without one, nobody would answer.
        """
        # Eventlet complains at length about objects that were there before it patched.
        check = "eventlet" not in setup.name
        server = launch(extra=f"--preload --workers {workers}", check=check)
        wait_until(lambda: len(server.processes()) == 1 + workers, what="the workers to start")
        for worker in server.processes()[1:]:
            with others_suspended(server, worker):
                tags = server.tag(), server.tag()
                with server.connect("/pinged", tag=tags[0]) as peer:
                    peer.read_opcode(PING)
                with server.connect("/events/echo", tag=tags[1]) as peer:
                    assert peer.echo("hello") == "hello"
                    peer.close()
                assert {server.log.event("begin", tag)["pid"] for tag in tags} == {worker.pid}

    @on(lambda setup: setup.gunicorn)
    def test_15_idle_socket_is_told_at_sigterm(self, launch: Launch) -> None:
        server = launch()
        tag = server.tag()
        with server.connect(tag=tag) as peer:
            server.log.event("begin", tag)
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            assert peer.answer_close().close_code == 1001
            assert time.monotonic() - started < 1.5
        assert server.log.event("end", tag)["code"] == 1001

    @on(lambda setup: setup.name in ("gunicorn-sync", "gunicorn-sync-tls", "gunicorn-threads"))
    def test_16_open_sockets_do_not_stop_http_or_their_worker(self, launch: Launch) -> None:
        server = launch(extra="--timeout 2")
        (worker,) = {process.pid for process in server.processes()[1:]}
        with server.connect() as peer, server.connect("/events/echo") as view:
            assert server.get("/http").text == "http"
            # Past the timeout and the arbiter's next look: nothing happens that could be awaited.
            time.sleep(3.5)
            assert peer.echo("hello") == "hello"
            assert view.echo("hello") == "hello"
            assert psutil.pid_exists(worker)
            assert server.get("/http").text == "http"
