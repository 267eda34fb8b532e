from __future__ import annotations

import contextlib
import ctypes
import select
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import stand_ins
from tests.support.memory import in_thread, is_waiting, tcp_pair
from tests.support.waiting import PATIENCE

from flask_ws.loop import pollers
from flask_ws.loop.pollers import EpollPoller, KqueuePoller, Poller, WakingPoller, make_poller

KINDS = ["epoll", "kqueue", "selector", "winsock"]


@pytest.fixture(params=KINDS)
def poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Poller:
    """Each system's poller, where need be on a stand-in for what this system has not."""
    choose_system(request.param, monkeypatch)
    return make_poller()


def choose_system(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "selector" and issubclass(selectors.DefaultSelector, selectors.SelectSelector):
        pytest.skip("on Windows it is not used")
    if kind in ("selector", "winsock"):
        monkeypatch.delattr(select, "epoll", raising=False)
        monkeypatch.delattr(select, "kqueue", raising=False)
        monkeypatch.setattr(pollers, "WINDOWS", kind == "winsock")
    if kind == "epoll" and not hasattr(select, "epoll"):
        pytest.skip("epoll is Linux's")
    if kind == "kqueue" and not hasattr(select, "kqueue"):
        if not hasattr(select, "epoll"):
            pytest.skip("nothing to make a kqueue of")
        stand_ins.install_kqueue(monkeypatch)
    if kind == "winsock" and not hasattr(ctypes, "WinDLL"):
        monkeypatch.setattr(ctypes, "WinDLL", stand_ins.WinDLL, raising=False)


@pytest.fixture
def readable() -> Iterator[int]:
    """The descriptor of a socket that has something to read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"hello")
        yield ours.fileno()


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_what_is_readable_is_reported_until_it_is_read(poller: Poller, readable: int) -> None:
    poller.register(readable)
    assert [poller.wait(1), poller.wait(1)] == [[readable]] * 2


def test_what_is_masked_is_not_reported(poller: Poller, readable: int) -> None:
    poller.register(readable)
    poller.mask(readable)
    assert poller.wait(0.01) == []


def test_what_is_unmasked_is_reported_again(poller: Poller, readable: int) -> None:
    poller.register(readable)
    poller.mask(readable)
    poller.unmask(readable)
    assert poller.wait(1) == [readable]


def test_the_end_of_a_masked_connection_is_not_reported(poller: Poller) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        poller.register(ours.fileno())
        poller.mask(ours.fileno())
        theirs.close()
        # A hangup is news once, at the most.
        poller.wait(0.01)
        assert poller.wait(0.01) == []


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_unregistered_is_not_reported(poller: Poller, readable: int, masked: bool) -> None:
    poller.register(readable)
    if masked:
        poller.mask(readable)
    poller.unregister(readable)
    assert poller.wait(0.01) == []


def test_a_socket_may_be_masked_before_it_is_registered(poller: Poller, readable: int) -> None:
    """Late news of another that had its number; it is taken in all the same."""
    poller.mask(readable)
    poller.register(readable)
    poller.unmask(readable)
    assert poller.wait(1) == [readable]


def test_a_socket_may_be_unmasked_when_it_is_gone(poller: Poller) -> None:
    with socket.socket() as sock:
        fd = sock.fileno()
        poller.register(fd)
        poller.mask(fd)
        poller.unregister(fd)
    poller.mask(fd)


@pytest.mark.parametrize("poller", ["epoll", "kqueue", "winsock"], indirect=True)
def test_a_closed_socket_is_reported_once_at_most(poller: Poller) -> None:
    """Nobody may have unregistered it, as where a Ctrl-C came at that moment."""
    with socket.socket() as sock:
        poller.register(sock.fileno())
    poller.wait(0.01)
    assert poller.wait(0.01) == []


def test_a_closed_sockets_number_may_be_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another that is added before the thread that waits has noticed."""
    choose_system("winsock", monkeypatch)
    from flask_ws.loop.winsock import WindowsSockets

    sockets = WindowsSockets()
    with socket.socket() as sock:
        fd = sock.fileno()
        sockets.add(fd)
    poll = sockets._poll

    def poll_and_take(*args: Any) -> int:
        found: int = poll(*args)
        sockets.add(fd)
        return found

    sockets._poll = poll_and_take
    assert sockets.wait(0) == [fd]
    sockets._poll = poll
    assert sockets.wait(0) == [fd]


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("epoll", EpollPoller),
        ("kqueue", KqueuePoller),
        ("selector", WakingPoller),
        ("winsock", WakingPoller),
    ],
)
def test_each_system_has_a_poller(
    kind: str, made: type[Poller], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_system(kind, monkeypatch)
    assert isinstance(make_poller(), made)


def test_what_is_registered_while_a_thread_waits_is_reported(poller: Poller, readable: int) -> None:
    waiting = in_thread(poller.wait, 6 * PATIENCE)
    assert is_waiting(waiting)
    poller.register(readable)

    # To be woken is to return, perhaps with nothing yet.
    assert (waiting.result(PATIENCE) or poller.wait(1)) == [readable]


def test_what_is_unmasked_while_a_thread_waits_is_reported(poller: Poller, readable: int) -> None:
    poller.register(readable)
    poller.mask(readable)
    # A hangup is news once, at the most.
    poller.wait(0.01)
    waiting = in_thread(poller.wait, 6 * PATIENCE)
    assert is_waiting(waiting)
    poller.unmask(readable)

    assert (waiting.result(PATIENCE) or poller.wait(1)) == [readable]


def test_to_wait_for_nothing_takes_no_turn_that_is_not_asked_for(poller: Poller) -> None:
    """A thread sleeps for all of its time, however often others look on."""
    began = time.monotonic()
    assert poller.wait(0.2) == []
    assert time.monotonic() - began > 0.15


def test_two_threads_may_wait_at_once(poller: Poller, readable: int) -> None:
    first, second = in_thread(poller.wait, 6 * PATIENCE), in_thread(poller.wait, 0.05)
    assert second.result(PATIENCE) == []
    poller.register(readable)

    assert (first.result(PATIENCE) or poller.wait(1)) == [readable]


def test_more_than_a_thousand_sockets_are_waited_for(poller: Poller) -> None:
    """select() ends at 1,024 descriptors, or at 512 on Windows."""
    with contextlib.ExitStack() as stack:
        pairs = []
        try:
            for _ in range(600):
                pairs.append([stack.enter_context(end) for end in socket.socketpair()])
        except OSError:
            pytest.skip("no descriptors for 600 connections")
        for ours, _ in pairs:
            poller.register(ours.fileno())
        for ours, theirs in (pairs[0], pairs[300], pairs[599]):
            theirs.send(b"hello")
            assert poller.wait(PATIENCE) == [ours.fileno()]
            ours.recv(10)
        for ours, _ in pairs:
            poller.unregister(ours.fileno())


def test_a_failed_connection_is_reported(poller: Poller) -> None:
    client, server = tcp_pair()
    with server:
        poller.register(server.fileno())
        reset(client)
        assert poller.wait(PATIENCE) == [server.fileno()]
