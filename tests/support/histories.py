"""Channels that remember, without clients: what subscribers got, and the machine on paper."""

from __future__ import annotations

import random

import pytest
from tests.support.waiting import until
from tests.unit.channels.test_history_properties import ACTIONS, Link, Machine, Server

from flask_ws import Broker, BrokerError, History, Position, Retention
from flask_ws.channels.channels import Channels
from flask_ws.channels.opening import close_brokers
from flask_ws.concurrency import threads
from flask_ws.protocol.shared import SharedMessage

GAP = "(gap)"


class Connection:
    """As much of one as is needed, and what it was sent."""

    label = "a connection"
    concurrency = threads
    home = None
    connected = True

    def __init__(self) -> None:
        self.got: list[str] = []
        self.sender = self

    def check_connected(self) -> None:
        pass

    def send_shared(self, message: SharedMessage) -> bool:
        self.got.append(bytes(message.payload).decode())
        return True

    queue_shared = send_shared

    def flush(self) -> None:
        pass


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

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        if self.is_cut:
            raise BrokerError("away")
        position = self.real.publish_kept(channel, payload, retention)
        self.server.log.append(payload)
        self.server.epoch = position.epoch
        for link in self.server.links:
            if link.is_subscribed and not link.is_cut:
                link.waiting.append((channel, payload, position))
        if self.fails_late:
            raise BrokerError("no answer")
        return position

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        if self.is_cut:
            raise BrokerError("away")
        return self.real.read_history(channel, retention, since)


def run_machine(seed: int, server: type[Server]) -> None:
    """Run the machine with random actions, and check what its subscribers got.

    Not by Hypothesis, which minds that other threads draw random numbers meanwhile.
    """
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("tests.unit.channels.test_history_properties.Link", RealLink)
        monkeypatch.setattr("tests.unit.channels.test_history_properties.Server", server)
        machine = Machine(monkeypatch)
        for _ in range(150):
            chance.choice(ACTIONS)(machine, chance.randrange(3), chance.randrange(6))
        machine.settle()
        close_brokers()
        machine.check()
