"""Servers that stop, restart or reload: clients are told, handlers end, nothing waits for long."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.raw import Peer
from tests.support.server import APPS, Server, wait_until
from tests.support.setups import Setup, on, on_main

from .conftest import Launch

#: A client is told within a second; and the delays of a loaded machine.
SOON = 1.0 + 0.5
#: From the end of the last handler to the end of the process.
GONE = 2.0 + 1.0
#: Codes that say that the server goes away, or comes back.
GOODBYES = (1001, 1012)


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    made: list[Peer] = []
    yield made
    for peer in made:
        peer.sock.close()


def open_some(server: Server, peers: list[Peer], per_kind: int = 2) -> list[str]:
    """Connections whose handlers receive, and others whose handlers wait elsewhere."""
    tags = []
    for path in ("/echo", "/until-lost") * per_kind:
        tags.append(server.tag())
        peers.append(server.connect(path, tag=tags[-1]))
        server.log.event("begin", tags[-1])
    return tags


def expect_goodbye(peers: list[Peer], began: float) -> None:
    for peer in peers:
        frame = peer.read_close()
        assert frame.close_code in GOODBYES
        assert time.monotonic() - began < SOON
        peer.send_close(frame.close_code)
        peer.expect_end()


def expect_handlers_to_end(server: Server, tags: list[str]) -> None:
    for tag in tags:
        assert server.log.event("end", tag)["connected"] is False


def stop(server: Server, peers: list[Peer], number: signal.Signals) -> None:
    tags = open_some(server, peers, 2 * server.setup.processes)
    began = time.monotonic()
    server.signal(number)
    expect_goodbye(peers, began)
    expect_handlers_to_end(server, tags)
    ended = time.monotonic()
    server.wait()
    assert time.monotonic() - ended < GONE


def test_stopping_server_says_goodbye_and_is_gone(
    launch: Launch, setup: Setup, peers: list[Peer]
) -> None:
    stop(launch(), peers, setup.stop_signal)


@on_main
def test_handler_learns_that_the_server_stops(
    launch: Launch, setup: Setup, peers: list[Peer]
) -> None:
    server = launch()
    tag = server.tag()
    peers.append(server.connect(tag=tag))
    server.log.event("begin", tag)
    server.signal(setup.stop_signal)
    expect_goodbye(peers, time.monotonic())
    end = server.log.event("end", tag)
    assert (end["error"], end["code"]) == ("ConnectionClosed", 1001)


@on_main
def test_peer_that_ignores_the_goodbye_does_not_hold_up_the_stop(
    launch: Launch, setup: Setup, peers: list[Peer]
) -> None:
    """The app's close_timeout is 2 s."""
    server = launch()
    open_some(server, peers)
    began = time.monotonic()
    server.signal(setup.stop_signal)
    server.wait()
    assert time.monotonic() - began < 2 + GONE + SOON


@on_main
def test_server_without_connections_stops_at_once(launch: Launch, setup: Setup) -> None:
    server = launch()
    with server.connect() as peer:
        peer.close()
    server.await_access_line(server.opened[0])
    began = time.monotonic()
    server.signal(setup.stop_signal)
    server.wait()
    assert time.monotonic() - began < GONE


@on(lambda setup: setup.gunicorn and setup.environment is None)
def test_hup_says_goodbye_and_goes_on_with_new_workers(
    launch: Launch, setup: Setup, peers: list[Peer]
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
def test_max_requests_says_goodbye(launch: Launch, setup: Setup, peers: list[Peer]) -> None:
    # One of them was the request that showed that the server is ready.
    server = launch(extra="--max-requests 6")
    (old,) = {process.pid for process in server.processes()[1:]}
    tags = open_some(server, peers, 1)
    began = time.monotonic()
    for _ in range(3):
        assert server.get("/http").text == "http"
    expect_goodbye(peers, began)
    expect_handlers_to_end(server, tags)
    wait_until(lambda: not psutil.pid_exists(old), timeout=GONE + SOON, what="the worker to end")
    with server.connect() as peer:
        assert peer.echo("hello") == "hello"
        peer.close()


@on(lambda setup: setup.name == "werkzeug-debug")
def test_reloader_says_goodbye(
    launch: Launch, setup: Setup, peers: list[Peer], tmp_path: Path
) -> None:
    apps = tmp_path / "apps"
    shutil.copytree(APPS, apps)
    server = launch(apps=apps)
    pid = json.loads(server.get("/process").body)["pid"]
    tags = open_some(server, peers)
    # The reloader looks at it once a second.
    began = time.monotonic() + 1
    os.utime(apps / "live.py")
    expect_goodbye(peers, began)
    expect_handlers_to_end(server, tags)
    assert json.loads(server.get("/process").body)["pid"] != pid


SCRIPTS = (
    Setup("werkzeug-sigterm", "python werkzeug_sigterm.py {port}", "werkzeug"),
    Setup("gevent-sigterm", "python gevent_sigterm.py {port}", "gevent"),
    Setup("eventlet-sigterm", "python eventlet_sigterm.py {port}", "eventlet"),
)


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_script_with_the_lines_of_the_docs_stops_at_sigterm(
    launch_other: Launch, script: Setup, peers: list[Peer]
) -> None:
    stop(launch_other(script), peers, signal.SIGTERM)


@on(lambda setup: setup.gunicorn and setup.main)
def test_gunicorns_count_of_connections_stays_right(launch: Launch) -> None:
    """A count that drifts upwards reaches `worker_connections`, and the worker accepts no more."""
    server = launch(extra="--worker-connections 4")
    for number in range(24):
        peer = server.connect("/close/1000" if number % 4 == 1 else "/echo")
        if number % 4 == 0:
            peer.close()
        elif number % 4 == 1:
            peer.answer_close()
        elif number % 4 == 2:
            peer.reset()
        peer.sock.close()
        server.log.event("end", server.opened[-1])
    assert server.get("/http", timeout=3).text == "http"
