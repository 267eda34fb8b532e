"""Who is subscribed to what, and the calls to the broker: who waits for whom."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future, wait
from typing import Any

import pytest
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE

from flask_ws import Broker, BrokerError, ConnectionClosed
from flask_ws.channels.subscriptions import Subscriptions

LIMIT = 100


class Connection:
    """As much of one as is needed here."""

    connected = True

    def check_connected(self) -> None:
        if not self.connected:
            raise ConnectionClosed(1006)


class SlowBroker(Broker):
    """Notes the calls for each channel; those for the one named slow wait until they may end."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, list[str]] = {}
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.fails = False

    def subscribe(self, channel: str) -> None:
        self._call("subscribe", channel)

    def unsubscribe(self, channel: str) -> None:
        self._call("unsubscribe", channel)

    def _call(self, kind: str, channel: str) -> None:
        calls = self.calls.setdefault(channel, [])
        calls.append(kind)
        if channel == "p:slow":
            self.begun.set()
            assert self.may_end.wait(PATIENCE)
        if self.fails:
            raise BrokerError("no room")
        calls.append("end")


@pytest.fixture
def broker() -> SlowBroker:
    return SlowBroker()


@pytest.fixture
def subscriptions(broker: SlowBroker) -> Any:
    return Subscriptions(broker, "p:")


Slow = tuple[Connection, "Future[bool]"]


@pytest.fixture
def slow(subscriptions: Any, broker: SlowBroker) -> Slow:
    """One whose subscription the broker does not confirm yet."""
    connection = Connection()
    subscribing = in_thread(subscriptions.add, connection, "slow", LIMIT)
    assert broker.begun.wait(PATIENCE)
    return connection, subscribing


def test_a_slow_subscription_keeps_no_other_channel_waiting(
    subscriptions: Any, broker: SlowBroker, slow: Slow
) -> None:
    other = Connection()
    assert in_thread(subscriptions.add, other, "quick", LIMIT).result(PATIENCE)
    in_thread(subscriptions.remove, other, "quick").result(PATIENCE)
    assert broker.calls["p:quick"] == ["subscribe", "end", "unsubscribe", "end"]
    broker.may_end.set()
    assert slow[1].result(PATIENCE)


def test_the_end_of_a_connection_waits_for_no_subscription(
    subscriptions: Any, broker: SlowBroker, slow: Slow
) -> None:
    """Not even for its own; what is left to do is done afterwards."""
    connection, subscribing = slow
    connection.connected = False
    in_thread(subscriptions.forget, Connection()).result(PATIENCE)
    in_thread(subscriptions.forget, connection).result(PATIENCE)
    broker.may_end.set()
    subscribing.result(PATIENCE)
    assert broker.calls["p:slow"] == ["subscribe", "end", "unsubscribe", "end"]
    assert subscriptions.get("slow") is None
    assert not subscriptions


def test_one_who_comes_second_waits_for_the_brokers_word(
    subscriptions: Any, broker: SlowBroker, slow: Slow
) -> None:
    second = in_thread(subscriptions.add, Connection(), "slow", LIMIT)
    assert wait([second], 0.05).not_done
    broker.may_end.set()
    assert second.result(PATIENCE)
    assert broker.calls["p:slow"] == ["subscribe", "end"]


def test_each_who_has_asked_is_told_when_the_broker_fails(
    subscriptions: Any, broker: SlowBroker, slow: Slow
) -> None:
    second = in_thread(subscriptions.add, Connection(), "slow", LIMIT)
    broker.fails = True
    broker.may_end.set()
    for subscribing in (slow[1], second):
        with pytest.raises(BrokerError):
            subscribing.result(PATIENCE)
    assert subscriptions.get("slow") is None
    assert not subscriptions


def test_nothing_is_left_of_one_that_ended_while_the_broker_failed(
    subscriptions: Any, broker: SlowBroker, slow: Slow
) -> None:
    subscriptions.forget(slow[0])
    broker.fails = True
    broker.may_end.set()
    with pytest.raises(BrokerError):
        slow[1].result(PATIENCE)
    assert subscriptions.get("slow") is None


def test_who_leaves_is_not_to_blame_for_a_broker_that_fails(
    subscriptions: Any, broker: SlowBroker, caplog: pytest.LogCaptureFixture
) -> None:
    connection = Connection()
    subscriptions.add(connection, "a", LIMIT)
    broker.fails = True
    subscriptions.forget(connection)
    assert "failed to end the subscription to 'a'" in caplog.text
    assert subscriptions.get("a") is None


def test_the_calls_for_a_channel_alternate_whoever_comes_and_goes(
    subscriptions: Any, broker: SlowBroker
) -> None:
    def come_and_go(seed: int) -> None:
        chance = random.Random(seed)
        connection = Connection()
        for _ in range(200):
            name = chance.choice("abc")
            if chance.random() < 0.4:
                subscriptions.add(connection, name, LIMIT)
            elif chance.random() < 0.8:
                subscriptions.remove(connection, name)
            else:
                subscriptions.forget(connection)
        subscriptions.forget(connection)

    for each in [in_thread(come_and_go, seed) for seed in range(8)]:
        each.result(PATIENCE)
    for calls in broker.calls.values():
        pairs = len(calls) // 4
        assert calls == ["subscribe", "end", "unsubscribe", "end"] * pairs
    assert not subscriptions
    assert [subscriptions.get(name) for name in "abc"] == [None] * 3
