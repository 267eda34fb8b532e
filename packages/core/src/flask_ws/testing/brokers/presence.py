"""What every broker that claims to track presence does, as tests for pytest."""

from __future__ import annotations

import os
from collections.abc import Collection

from flask_ws.exceptions import BrokerError
from flask_ws.plugin.history import Position
from flask_ws.plugin.presence import Lease, MemberChange

from .base import BrokerTests
from .process import NAMES, PAYLOADS, Process, at_once, wait_until

__all__ = ["PresenceTests"]

#: More seconds than any test takes; and so few that a test can wait for them.
LONG, SHORT = 600.0, 0.2


class PresenceTests(BrokerTests):
    """The part of :class:`.BrokerSuite` about presence; passes where it is not tracked."""

    def test_members_are_put_and_dropped(self) -> None:
        """With their data, byte for byte, until they are changed or dropped."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _hold_new(process)
            put = {f"{lease.name}.{number}": data for number, data in enumerate(PAYLOADS)}
            assert _put(process, channel, lease, put)
            assert process.broker.read_members(channel).members == put
            first, second, *rest = put
            assert process.broker.change_members(channel, lease, {second: b"new"}, [first])
            left = {second: b"new"} | {member: put[member] for member in rest}
            assert process.broker.read_members(channel).members == left

    def test_a_channel_without_members_is_at_the_beginning(self) -> None:
        """Of no epoch; the first change has the number 1."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _hold_new(process)
            assert process.broker.read_members(channel) == (Position("", 0), {}, frozenset())
            _put(process, channel, lease, {f"{lease.name}.1": b""})
            epoch, offset = process.broker.read_members(channel).position
            assert epoch
            assert offset == 1

    def test_changes_are_numbered_one_by_one(self) -> None:
        """What changes nothing has no number; an empty channel keeps its own."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _hold_new(process)
            one, other = f"{lease.name}.1", f"{lease.name}.2"
            numbers = []
            for put, dropped in (
                ({one: b"one", other: b"other"}, []),
                ({one: b"one"}, [f"{lease.name}.3"]),
                ({one: b"new"}, []),
                ({}, [one, other]),
                ({}, [one]),
            ):
                process.broker.change_members(channel, lease, put, dropped)
                numbers.append(process.broker.read_members(channel).position.offset)
            assert numbers == [2, 2, 3, 5, 5]

    def test_members_are_apart_whatever_the_channels_names(self) -> None:
        """A name is compared byte for byte."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            suffix = _new()
            names = [f"{name}{suffix}" for name in (*NAMES, "a}b", "a{}b", "a{b", "{}", "}{")]
            lease = _hold(process, names)
            for number, name in enumerate(names):
                assert _put(process, name, lease, {f"{lease.name}.{number}": name.encode()})
            for number, name in enumerate(names):
                found = process.broker.read_members(name).members
                assert found == {f"{lease.name}.{number}": name.encode()}

    def test_changes_arrive_in_the_order_of_their_numbers(self) -> None:
        """In all processes, their own included; together they make what is read."""
        channel = _new()
        with self.listening(channel) as one, self.listening(channel) as other:
            if not one.broker.tracks_presence:
                return

            def change(process: Process) -> None:
                lease = _hold(process, [channel])
                for number in range(30):
                    member, before = f"{lease.name}.{number}", f"{lease.name}.{number - 1}"
                    data = b"with space %d" % number
                    process.broker.change_members(channel, lease, {member: data}, [before])

            at_once(lambda: change(one), lambda: change(other))
            for process in (one, other):
                read = process.broker.read_members(channel)
                number = read.position.offset
                assert number == (118 if self.reaches_others else 59)
                wait_until(lambda: len(process.delivered) >= number, "them to arrive")  # noqa: B023
                assert process.positions == [
                    Position(read.position.epoch, offset) for offset in range(1, number + 1)
                ]
                assert _replay(process) == read.members

    def test_without_its_lease_nobody_is_put(self) -> None:
        """Whoever is to be dropped is dropped."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _new(), Lease(f"lease:{_new()}", 1)
            member = f"{lease.name}.1"
            assert not process.broker.change_members(channel, lease, {member: b""}, [])
            assert process.broker.read_members(channel).members == {}
            process.broker.renew_lease(lease, LONG, [channel])
            assert _put(process, channel, lease, {member: b""})
            _let_run_out(process, channel, lease)
            other = f"{lease.name}.2"
            assert not process.broker.change_members(channel, lease, {other: b""}, [member])
            assert process.broker.read_members(channel).members == {}

    def test_what_comes_late_with_a_lower_term_is_refused(self) -> None:
        """It neither puts anybody, nor takes the lease back."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, old = _hold_new(process)
            _put(process, channel, old, {f"{old.name}.1": b""})
            new = Lease(old.name, 2)
            assert not process.broker.renew_lease(new, LONG, [channel])
            assert not _put(process, channel, old, {f"{old.name}.2": b""})
            process.broker.renew_lease(old, LONG, [channel])
            assert _put(process, channel, new, {f"{new.name}.3": b""})
            members = process.broker.read_members(channel).members
            assert set(members) == {f"{old.name}.1", f"{old.name}.3"}

    def test_renewing_tells_whether_the_lease_was_held(self) -> None:
        """``None``, or the channels in which it was not, for one that is new or was lost."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _new(), Lease(f"lease:{_new()}", 1)
            renew = process.broker.renew_lease
            assert _lost(renew(lease, LONG, [channel]), channel)
            assert not _lost(renew(lease, LONG, [channel]), channel)
            _put(process, channel, lease, {f"{lease.name}.1": b""})
            _let_run_out(process, channel, lease)
            assert _lost(renew(lease, LONG, [channel]), channel)
            assert not _lost(renew(lease, LONG, [channel]), channel)

    def test_members_whose_lease_ran_out_are_dropped_once(self) -> None:
        """Whoever looks; not by being read, and those of other leases stay."""
        channel = _new()
        with self.listening(channel) as one, self.listening(channel) as second:
            if not one.broker.tracks_presence:
                return
            other = second if self.reaches_others else one
            lost, held = _hold(one, [channel]), _hold(other, [channel])
            gone = {f"{lost.name}.{number}": b"gone" for number in range(3)}
            _put(one, channel, lost, gone)
            _put(other, channel, held, {f"{held.name}.1": b"there"})
            both = {channel: [lost.name, held.name]}
            _let_run_out(one, channel, lost)
            assert len(other.broker.read_members(channel).members) == 4
            at_once(
                lambda: one.broker.expire_members(both),
                lambda: other.broker.expire_members(both),
                lambda: other.broker.expire_members({channel: None, _new(): [lost.name]}),
            )
            read = other.broker.read_members(channel)
            assert read.members == {f"{held.name}.1": b"there"}
            assert read.lost == frozenset()
            assert read.position.offset == 7
            for process in (one, other):
                wait_until(lambda: len(process.delivered) >= 7, "the changes")  # noqa: B023
                assert _replay(process) == read.members

    def test_a_lease_that_is_held_keeps_its_members(self) -> None:
        """Also one that was renewed at the last moment."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _hold_new(process)
            _put(process, channel, lease, {f"{lease.name}.1": b""})
            _let_run_out(process, channel, lease)
            process.broker.renew_lease(lease, LONG, [channel])
            process.broker.expire_members({channel: [lease.name]})
            process.broker.expire_members({channel: None})
            assert list(process.broker.read_members(channel).members) == [f"{lease.name}.1"]
            assert process.broker.read_members(channel).lost == frozenset()

    def test_a_lease_can_be_shortened(self) -> None:
        """As by a process that ends."""
        with self.process() as process:
            if not process.broker.tracks_presence:
                return
            channel, lease = _hold_new(process)
            _put(process, channel, lease, {f"{lease.name}.1": b""})
            _let_run_out(process, channel, lease)
            assert process.broker.read_members(channel).members == {f"{lease.name}.1": b""}

    def test_every_process_reads_the_same_members(self) -> None:
        """Whoever has put them."""
        with self.process() as one, self.process() as other:
            if not one.broker.tracks_presence or not self.reaches_others:
                return
            channel, put = _new(), {}
            for process in (one, other):
                lease = _hold(process, [channel])
                put[f"{lease.name}.1"] = lease.name.encode()
                _put(process, channel, lease, {f"{lease.name}.1": lease.name.encode()})
            assert one.broker.read_members(channel) == other.broker.read_members(channel)
            assert one.broker.read_members(channel).members == put

    def test_members_outlive_a_cut(self) -> None:
        """During which nothing can be done."""
        with self.behind_proxy() as behind:
            if behind is None:
                return
            proxy, url = behind
            with self.process(url) as process:
                if not process.broker.tracks_presence:
                    return
                channel, lease = _hold_new(process)
                put = {f"{lease.name}.1": b"there"}
                _put(process, channel, lease, put)
                proxy.cut()
                wait_until(lambda: _fails(process, channel, lease), "all of it to fail")
                proxy.restore()
                wait_until(lambda: _succeeds(process, channel), "it to be back", every=0.1)
                assert not _lost(process.broker.renew_lease(lease, LONG, [channel]), channel)
                assert process.broker.read_members(channel).members == put


def _new() -> str:
    """Make a name that nothing has."""
    return os.urandom(8).hex()


def _hold_new(process: Process) -> tuple[str, Lease]:
    """Hold a lease for a new channel."""
    channel = _new()
    return channel, _hold(process, [channel])


def _hold(process: Process, channels: Collection[str]) -> Lease:
    lease = Lease(f"lease:{_new()}", 1)
    process.broker.renew_lease(lease, LONG, channels)
    return lease


def _let_run_out(process: Process, channel: str, lease: Lease) -> None:
    """Hold a lease on which a member depends for a moment more, and wait for its end."""
    process.broker.renew_lease(lease, SHORT, [channel])
    wait_until(
        lambda: lease.name in process.broker.read_members(channel).lost, "the lease to run out"
    )


def _put(process: Process, channel: str, lease: Lease, put: dict[str, bytes]) -> bool:
    return process.broker.change_members(channel, lease, put, [])


def _lost(answer: Collection[str] | None, channel: str) -> bool:
    return answer is None or channel in answer


def _replay(process: Process) -> dict[str, bytes]:
    """Return the members that there are after all changes that have arrived."""
    members: dict[str, bytes] = {}
    for _, payload in process.delivered:
        change = MemberChange.unpack(payload)
        assert change is not None, f"{payload[:40]!r} is no change"
        if change.data is None:
            members.pop(change.member)
        else:
            members[change.member] = change.data
    return members


def _fails(process: Process, channel: str, lease: Lease) -> bool:
    broker, failures = process.broker, 0
    for call in (
        lambda: broker.change_members(channel, lease, {f"{lease.name}.2": b""}, []),
        lambda: broker.read_members(channel),
        lambda: broker.renew_lease(lease, LONG, [channel]),
        lambda: broker.expire_members({channel: ["lease:of-nobody"]}),
    ):
        try:
            call()
        except BrokerError:
            failures += 1
    return failures == 4


def _succeeds(process: Process, channel: str) -> bool:
    try:
        process.broker.read_members(channel)
    except BrokerError:
        return False
    return True
