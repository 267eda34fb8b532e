"""Channels that remember, without clients: what subscribers got, and the machine on paper."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import pytest
from tests.support.waiting import until
from tests.unit.channels.test_history_properties import (
    ACTIONS,
    GAP,
    Connection,
    Link,
    Machine,
    Server,
)

from flask_ws import Broker, BrokerError, History, Position, Retention
from flask_ws.channels.channels import Channels
from flask_ws.channels.opening import close_brokers
from flask_ws.testing.proxy import Proxy

__all__ = [
    "GAP",
    "HistoriesOnServer",
    "Open",
    "RealLink",
    "is_away",
    "opening",
    "publish_until_taken",
    "run_machine",
    "subscribe",
]

Open = Callable[..., Channels]
UrlAt = Callable[[int], str]


@contextlib.contextmanager
def opening() -> Iterator[Open]:
    """Have what opens the channels of a process."""

    def open_(url: str, kept: int = 100, seconds: float = 600) -> Channels:
        return Channels({"SOCK_BROKER_URL": url, "SOCK_HISTORY": {"*": (kept, seconds)}})

    yield open_
    close_brokers()


def subscribe(channels: Channels, channel: str, since: str | None = None) -> Connection:
    connection = Connection()
    channels.subscribe(connection, channel, limit=9, since=since, gap=GAP)  # type: ignore[arg-type]
    return connection


def is_away(channels: Channels) -> bool:
    opened = channels._opening.made
    assert opened is not None
    return opened.broker.is_away


def publish_until_taken(channels: Channels, channel: str, data: str) -> None:
    until(lambda: channels.publish(channel, data))


class RealLink(Link):
    """Keeps messages at a real broker; what is published waits to be brought all the same."""

    real: Broker

    def keep(self, channel: str, payload: bytes, retention: Retention) -> Position:
        position = self.real.publish_kept(channel, payload, retention)
        self.server.epoch = position.epoch
        return position

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        if self.is_cut:
            raise BrokerError("away")
        return self.real.read_history(channel, retention, since)


def run_machine(seed: int, real: Broker, empty: Callable[[], object]) -> None:
    """Run the machine with random actions, and check what its subscribers got.

    Not by Hypothesis, which minds that other threads draw random numbers meanwhile.

    :param real: keeps the messages.
    :param empty: has it lose them.
    """

    class RealServer(Server):
        def restart(self) -> None:
            super().restart()
            empty()

    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(RealLink, "real", real, raising=False)
        monkeypatch.setattr("tests.unit.channels.test_history_properties.Link", RealLink)
        monkeypatch.setattr("tests.unit.channels.test_history_properties.Server", RealServer)
        machine = Machine(monkeypatch)
        for _ in range(150):
            chance.choice(ACTIONS)(machine, chance.randrange(3), chance.randrange(6))
        machine.settle()
        close_brokers()
        machine.check()


class HistoriesOnServer:
    """What holds on each broker's real server.

    A subclass has the fixtures ``port``, the server's; ``url_at``, which makes the URL for a port;
    and ``open_``.
    """

    def test_who_comes_back_to_another_process_has_missed_nothing(
        self, port: int, url_at: UrlAt, open_: Open
    ) -> None:
        here, there = open_(url_at(port)), open_(url_at(port))
        first = here.publish("come back", "first").position
        here.publish("come back", "second")
        connection = subscribe(there, "come back", first)
        here.publish("come back", "third")
        until(lambda: connection.got == ["second", "third"])

    def test_a_process_that_was_cut_off_heals_itself(
        self, port: int, url_at: UrlAt, open_: Open
    ) -> None:
        """In order, once, before what comes then."""
        with Proxy(("127.0.0.1", port)) as proxy:
            here, there = open_(url_at(proxy.port)), open_(url_at(port))
            connection = subscribe(here, "cut off")
            publish_until_taken(there, "cut off", "before")
            until(lambda: connection.got == ["before"])
            proxy.cut()
            until(lambda: is_away(here))
            for number in range(5):
                assert there.publish("cut off", str(number))
            proxy.restore()
            until(lambda: len(connection.got) == 6)
            there.publish("cut off", "after")
            until(lambda: connection.got == ["before", *"01234", "after"])

    def test_more_than_is_kept_is_a_gap(self, port: int, url_at: UrlAt, open_: Open) -> None:
        with Proxy(("127.0.0.1", port)) as proxy:
            here, there = open_(url_at(proxy.port), 2), open_(url_at(port), 2)
            connection = subscribe(here, "too long")
            proxy.cut()
            until(lambda: is_away(here))
            for number in range(5):
                assert there.publish("too long", str(number))
            proxy.restore()
            until(lambda: connection.got == [GAP, "3", "4"])
