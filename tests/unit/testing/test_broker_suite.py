"""The suite for brokers accepts memory://, and does not accept whatever comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flask_ws import Broker, hookimpl
from flask_ws.plugin import manager as plugins
from flask_ws.testing import BrokerSuite


class TestMemory(BrokerSuite):
    url = "memory://"
    unreachable_url = None
    reaches_others = False


class FaultyBroker(Broker):
    """Reaches all in this process that have it: at most, and not quite."""

    started: list[FaultyBroker]

    def __init__(self, fault: str, started: list[FaultyBroker]) -> None:
        super().__init__()
        self.fault, self.started = fault, started
        self.subscribed: set[str] = set()

    def start(self, deliver: Callable[[str, bytes], object]) -> None:
        self.deliver = deliver
        self.started.append(self)

    def publish(self, channel: str, payload: bytes) -> None:
        for other in self.started:
            if channel in other.subscribed or self.fault == "to all":
                other.deliver(channel, payload.strip() if self.fault == "stripped" else payload)
                if self.fault == "twice":
                    other.deliver(channel, payload)

    def subscribe(self, channel: str) -> None:
        self.subscribed.add(channel)

    def unsubscribe(self, channel: str) -> None:
        if self.fault != "for ever":
            self.subscribed.discard(channel)

    def channels(self, prefix: str) -> dict[str, int]:
        names = [name for other in self.started for name in other.subscribed]
        return {
            name: names.count(name)
            for name in names
            if name.startswith(prefix) or self.fault == "any prefix"
        }

    def close(self) -> None:
        if self in self.started:
            self.started.remove(self)


class Suite(BrokerSuite):
    unreachable_url = None


@pytest.fixture
def faulty() -> Iterator[Callable[[str], Suite]]:
    """The suite, for a broker with a fault."""
    started: list[FaultyBroker] = []

    class Plugin:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            scheme, _, fault = url.partition("://")
            return FaultyBroker(fault, started) if scheme == "faulty" else None

    plugin = Plugin()
    plugins.plugins.register(plugin)

    def make(fault: str) -> Suite:
        suite = Suite()
        suite.url = f"faulty://{fault}"
        return suite

    yield make
    plugins.plugins.unregister(plugin)


def run(suite: BrokerSuite) -> set[str]:
    """The tests that fail."""
    failed = set()
    for name in dir(suite):
        if name.startswith("test_"):
            try:
                getattr(suite, name)()
            except AssertionError:
                failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ("none", None),
        ("twice", "test_every_process_gets_a_publication_once"),
        ("stripped", "test_a_publication_reaches_other_processes_byte_for_byte"),
        ("to all", "test_channels_are_apart_whatever_their_names"),
        ("for ever", "test_after_unsubscribing_nothing_comes"),
        ("any prefix", "test_channels_tells_who_is_subscribed_to_what"),
    ],
)
def test_a_fault_is_found(faulty: Callable[[str], Suite], fault: str, failing: str | None) -> None:
    failed = run(faulty(fault))
    assert failing in failed if failing else not failed
