"""The suite for brokers accepts memory://, and does not accept whatever comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import pytest

from flask_ws import Broker, Lease, Members, Position, hookimpl
from flask_ws.plugin import manager as plugins
from flask_ws.plugin.members import MemberTable
from flask_ws.testing import BrokerSuite
from flask_ws.testing.brokers import outages as outages_module
from flask_ws.testing.brokers import presence as presence_module
from flask_ws.testing.brokers import process as process_module
from flask_ws.testing.brokers.presence import PresenceTests


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


class Attendants(FaultyBroker):
    """Knows who is there, and not quite."""

    tracks_presence = True

    def __init__(self, fault: str, started: list[Any], table: MemberTable) -> None:
        super().__init__(fault, started)
        self.table = table
        table.deliver = self.bring

    def bring(self, channel: str, payload: bytes, position: Position) -> None:
        if self.fault == "no numbers":
            position = Position(position.epoch, 1)
        for other in list(self.started):
            if channel in other.subscribed and (self.fault != "to others" or other is not self):
                other.deliver(channel, payload, position)  # type: ignore[call-arg]

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        table, fault = self.table, self.fault
        if fault == "any lease" or (fault == "any term" and not table._is_lost(lease.name)):
            table.renew(Lease(lease.name, table._leases.get(lease.name, (1, 0))[0]), 600)
            lease = Lease(lease.name, table._leases[lease.name][0])
        if fault == "each is a change":
            put = {member: data + b"" for member, data in put.items()}
            for member in put:
                table.change(channel, lease, {}, [member])
        if fault == "stripped data":
            put = {member: data.strip() for member, data in put.items()}
        if fault == "keeps who leaves":
            dropped = list(dropped)[1:]
        return table.change(channel, lease, put, dropped)

    def read_members(self, channel: str) -> Members:
        found = self.table.read(channel)
        if self.fault == "hides the lost":
            members = {
                member: data
                for member, data in found.members.items()
                if member.rpartition(".")[0] not in found.lost
            }
            return Members(found.position, members, found.lost)
        return found

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str] | None:
        if self.fault == "takes back terms":
            self.table._leases.pop(lease.name, None)
        lost = self.table.renew(lease, seconds)
        return () if self.fault == "never lost" else lost

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        if self.fault == "of all":
            for channel in leases:
                members = self.table.read(channel).members
                self.table.change(channel, Lease("nobody's", 1), {}, list(members))
        elif self.fault != "for ever there":
            self.table.expire(leases)


class Suite(BrokerSuite):
    unreachable_url = None


@pytest.fixture
def faulty() -> Iterator[Callable[..., Suite]]:
    """The suite, for a broker with a fault."""
    started: list[FaultyBroker] = []
    table = MemberTable()

    class Plugin:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            scheme, _, fault = url.partition("://")
            if scheme == "absent":
                return Attendants(fault, started, table)
            return FaultyBroker(fault, started) if scheme == "faulty" else None

    plugin = Plugin()
    plugins.plugins.register(plugin)

    def make(fault: str, scheme: str = "faulty") -> Suite:
        suite = Suite()
        suite.url = f"{scheme}://{fault}"
        return suite

    yield make
    plugins.plugins.unregister(plugin)


def run(suite: BrokerSuite, tests: Iterable[str] = dir(BrokerSuite)) -> set[str]:
    """The tests that fail."""
    failed = set()
    for name in tests:
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
def test_a_fault_is_found(faulty: Callable[..., Suite], fault: str, failing: str | None) -> None:
    failed = run(faulty(fault))
    assert failing in failed if failing else not failed


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ("none", None),
        ("stripped data", "test_members_are_put_and_dropped"),
        ("keeps who leaves", "test_members_are_put_and_dropped"),
        ("each is a change", "test_changes_are_numbered_one_by_one"),
        ("no numbers", "test_changes_arrive_in_the_order_of_their_numbers"),
        ("to others", "test_changes_arrive_in_the_order_of_their_numbers"),
        ("any lease", "test_without_its_lease_nobody_is_put"),
        ("any term", "test_what_comes_late_with_a_lower_term_is_refused"),
        ("takes back terms", "test_what_comes_late_with_a_lower_term_is_refused"),
        ("never lost", "test_renewing_tells_whether_the_lease_was_held"),
        ("hides the lost", "test_members_whose_lease_ran_out_are_dropped_once"),
        ("for ever there", "test_members_whose_lease_ran_out_are_dropped_once"),
        ("of all", "test_a_lease_that_is_held_keeps_its_members"),
    ],
)
def test_a_fault_in_presence_is_found(
    faulty: Callable[..., Suite],
    fault: str,
    failing: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence_module, "SHORT", 0.05)
    if failing is not None:
        # What never comes is waited for.
        monkeypatch.setattr(process_module, "PATIENCE", 0.5)
    failed = run(faulty(fault, "absent"), dir(PresenceTests) if failing is None else [failing])
    assert failing in failed if failing else not failed


def test_failing_assertions_of_its_parts_show_their_values() -> None:
    """pytest has rewritten them, as those of the suite itself."""
    for module in (outages_module, presence_module, process_module):
        assert "@pytest_ar" in vars(module)
