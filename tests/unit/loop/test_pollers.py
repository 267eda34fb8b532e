from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from flask_ws.loop.pollers import EpollPoller, Poller, SelectorPoller, make_poller

KINDS: list[Callable[[], Poller]] = [SelectorPoller]
if hasattr(select, "epoll"):
    KINDS.append(EpollPoller)


@pytest.fixture(params=KINDS)
def poller(request: pytest.FixtureRequest) -> Poller:
    made: Poller = request.param()
    return made


@pytest.fixture
def readable() -> Iterator[int]:
    """The descriptor of a socket that has something to read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"hello")
        yield ours.fileno()


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


def test_a_system_without_epoll_has_a_poller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    assert isinstance(make_poller(), SelectorPoller)
