from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.support.memory import PATIENCE

from flask_ws import Concurrency
from flask_ws.concurrency import threads


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes no more."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))


@pytest.fixture(params=["poll", "select"])
def polled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Concurrency:
    """With and without poll(), which eventlet and Windows do not have."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    return threads


def test_a_socket_with_data_is_readable(
    pair: tuple[socket.socket, socket.socket], polled: Concurrency
) -> None:
    pair[0].send(b"x")

    assert polled.wait_readable(pair[1].fileno(), PATIENCE)


def test_a_socket_whose_peer_has_gone_is_readable(
    pair: tuple[socket.socket, socket.socket], polled: Concurrency
) -> None:
    pair[0].close()

    assert polled.wait_readable(pair[1].fileno(), PATIENCE)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_quiet_socket_is_not_readable_when_the_time_is_up(
    pair: tuple[socket.socket, socket.socket], polled: Concurrency, timeout: float
) -> None:
    assert not polled.wait_readable(pair[1].fileno(), timeout)


def test_a_socket_with_room_is_writable(
    pair: tuple[socket.socket, socket.socket], polled: Concurrency
) -> None:
    assert polled.wait_writable(pair[1].fileno(), PATIENCE)


def test_a_full_socket_is_not_writable_when_the_time_is_up(
    pair: tuple[socket.socket, socket.socket], polled: Concurrency
) -> None:
    fill(pair[1])

    assert not polled.wait_writable(pair[1].fileno(), 0.01)


def test_a_spawned_thread_does_not_keep_the_process_alive() -> None:
    daemon: list[bool] = []
    done = threading.Event()

    def target() -> None:
        daemon.append(threading.current_thread().daemon)
        done.set()

    threads.spawn(target, "name")

    assert done.wait(PATIENCE)
    assert daemon == [True]


def test_a_spawned_thread_has_the_name_it_was_given() -> None:
    names: list[str] = []
    done = threading.Event()

    def target() -> None:
        names.append(threading.current_thread().name)
        done.set()

    threads.spawn(target, "flask_ws.Test")

    assert done.wait(PATIENCE)
    assert names == ["flask_ws.Test"]


def test_a_lock_is_held_by_one() -> None:
    lock = threads.lock()

    assert lock.acquire(False)
    assert not lock.acquire(False)


def test_an_event_wakes_who_waits_for_it() -> None:
    event = threads.event()
    threads.spawn(event.set, "setter")

    assert event.wait(PATIENCE)


def test_primitives_are_looked_up_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they are green in a process that is monkey-patched later."""
    green = object()
    monkeypatch.setattr(threading, "Lock", lambda: green)

    assert threads.lock() is green
