from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.support.waiting import PATIENCE

from flask_ws import Concurrency, HomeThread
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


# Homes


class Home(HomeThread):
    """This very thread, or another, as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.here = True
        self.woken = 0

    def is_here(self) -> bool:
        return self.here

    def wake(self) -> None:
        self.woken += 1


def test_threads_have_no_home() -> None:
    assert threads.home() is None


def test_at_home_a_function_is_called_at_once() -> None:
    home, called = Home(), []
    home.run(lambda: called.append("now"))

    assert (called, home.woken) == (["now"], 0)


def test_elsewhere_a_function_waits_for_the_home_to_wake() -> None:
    home, called = Home(), []
    home.here = False
    home.run(lambda: called.append("later"))

    assert (called, home.woken) == ([], 1)
    home.work()
    assert called == ["later"]


def test_no_function_overtakes_another() -> None:
    home = Home()
    called: list[str] = []

    def first() -> None:
        home.here = True
        home.run(lambda: called.append("second"))
        # As another greenlet would, while this one waits.
        home.work()
        called.append("first")

    home.here = False
    home.run(first)
    home.work()
    assert called == ["first", "second"]
    home.run(lambda: called.append("third"))
    assert called == ["first", "second", "third"]


def test_a_function_that_fails_is_logged_and_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    home, called = Home(), []
    home.here = False
    home.run(lambda: 1 / 0)
    home.run(lambda: called.append("next"))
    home.work()

    assert called == ["next"]
    assert "ZeroDivisionError" in caplog.text
