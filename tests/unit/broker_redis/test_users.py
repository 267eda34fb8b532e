"""A user's connections in several processes, which Redis connects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from tests.support.redis import RedisServer
from tests.support.waiting import until

from flask_ws import BrokerError
from flask_ws.channels import census as census_module
from flask_ws.channels.channels import Channels
from flask_ws.channels.opening import close_brokers
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection

pytestmark = pytest.mark.xdist_group("test_broker_redis")


class Guest:
    """In place of a connection."""

    label = "A guest"
    concurrency = threads
    home = None

    def __init__(self) -> None:
        self.sender = self
        self.connected = True
        self.got: list[Any] = []

    def check_connected(self) -> None:
        assert self.connected

    def send_shared(self, message: Any) -> bool:
        self.got.append(bytes(message.payload))
        return True

    def dismiss(self, code: int, reason: str) -> None:
        self.connected = False
        self.got.append((code, reason))


@pytest.fixture
def processes(server: RedisServer) -> Iterator[list[Channels]]:
    url = server.url
    yield [Channels({"SOCK_BROKER_URL": url}) for _ in range(4)]
    close_brokers()


def enter(channels: Channels, identity: str) -> Guest:
    guest = Guest()
    channels.enter(cast("Connection", guest), identity)
    return guest


def test_all_connections_of_a_user_are_counted(processes: list[Channels]) -> None:
    """Whoever asks, and though some processes have none."""
    guests = [enter(process, "ada") for process in (*processes[:3], processes[0])]
    enter(processes[1], "grace")
    assert [process.count_connections("ada") for process in processes] == [4] * 4
    guests[1].connected = False
    processes[1].forget(cast("Connection", guests[1]))
    assert [process.count_connections("ada") for process in processes] == [3] * 4
    assert processes[3].count_connections("nobody") == 0


def test_counting_does_not_wait_for_more_than_the_answers(
    processes: list[Channels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis tells how many processes are asked."""
    for process in processes:
        enter(process, "ada")
    opened = processes[0]._get()
    assert opened.census is not None
    monkeypatch.setattr(census_module, "PATIENCE", 3600.0)
    for _ in range(3):
        assert processes[0].count_connections("ada") == 4
    # The channel for the answers is gone, and the user's is still there.
    assert len(opened.subscriptions.all()) == 1


def test_a_user_is_disconnected_everywhere(processes: list[Channels]) -> None:
    """After what was sent before; by whichever process."""
    guests = [enter(process, "ada") for process in processes]
    other = enter(processes[0], "grace")
    assert processes[3].send_to("ada", "first")
    assert processes[3].disconnect("ada", 4001, "grüße")
    for guest in guests:
        until(lambda: not guest.connected)  # noqa: B023
        assert guest.got == [b"first", (4001, "grüße")]
    assert other.got == []


def test_a_ticket_is_used_once_in_all_processes(processes: list[Channels]) -> None:
    answers = [process.use_once("ticket:1", 60, alone=False) for process in processes]
    assert sorted(answers) == [False, False, False, True]


def test_without_redis_this_process_is_reached(server: RedisServer, tmp_path: Any) -> None:
    """And its caller is told that others are not, and that nobody can count."""
    server = RedisServer(tmp_path)
    server.start()
    channels = Channels({"SOCK_BROKER_URL": server.url})
    try:
        guest = enter(channels, "ada")
        server.kill()
        with pytest.raises(BrokerError):
            channels.count_connections("ada")
        assert not channels.disconnect("ada", 4001, "")
        until(lambda: not guest.connected)
        with pytest.raises(BrokerError):
            channels.use_once("ticket:1", 60, alone=False)
    finally:
        close_brokers()
