"""The members of a process: known to the broker as long as they, and it, are there."""

from __future__ import annotations

import json
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.presence import Person, World

from flask_ws import BrokerError, ConnectionClosed, Position
from flask_ws.channels.watchers import Watchers
from flask_ws.plugin.memory import MemoryBroker
from flask_ws.presence.entries import make_entry
from flask_ws.presence.keeper import Keeper

LEASE = 15.0
GRACE = 3.0
ROOM = "flask_ws:\x1fpresence:room"


def test_who_joins_is_there_for_all_processes(world: World) -> None:
    one, other = world.start(), world.start()
    one.join(Person("7", {"name": "Ada"}))
    other.join(Person("8"))
    assert one.read() == other.read() == {"7": [{"name": "Ada"}], "8": [{}]}


def test_three_tabs_are_there_once_and_leave_with_the_last(world: World) -> None:
    one, other = world.start(), world.start()
    watcher = other.watch()
    tabs = [(one, Person()), (one, Person()), (other, Person())]
    for process, person in tabs:
        process.join(person)
    for process, person in tabs:
        assert one.read() == {"7": [{}]}
        process.leave(person)
    assert one.read() == {}
    assert watcher.take() == [("state", {}), ("join", "7"), ("leave", "7")]


def test_to_join_again_is_to_change_the_info(world: World) -> None:
    process = world.start()
    person = Person("7", 1)
    process.join(person)
    calls = len(process.broker.calls)
    process.join(person)
    assert len(process.broker.calls) == calls
    person.info = 2
    process.join(person)
    assert process.read() == {"7": [2]}
    assert len(process.keeper) == 1


def test_one_who_has_left_may_join_again(world: World) -> None:
    process = world.start()
    person = Person()
    process.join(person)
    process.leave(person)
    process.leave(person)
    assert process.read() == {}
    process.join(person)
    assert process.read() == {"7": [{}]}


def test_the_end_of_a_connection_is_told_after_the_grace(world: World) -> None:
    process = world.start()
    watcher, person = process.watch(), Person()
    process.join(person)
    process.end(person)
    world.run(GRACE - 0.1)
    assert watcher.take() == [("state", {}), ("join", "7")]
    world.run(0.2)
    assert watcher.take() == [("leave", "7")]
    assert process.read() == {}


def test_one_who_comes_back_within_the_grace_has_not_left(world: World) -> None:
    one, other = world.start(), world.start()
    watcher, person = one.watch(), Person()
    one.join(person)
    for process in (other, one, other) * 5:
        old, person = person, Person()
        (other if process is one else one).end(old)
        world.run(GRACE - 1)
        process.join(person)
    world.run(2 * GRACE)
    assert watcher.take() == [("state", {}), ("join", "7")]


def test_without_a_grace_the_end_is_told_at_once(world: World) -> None:
    process = world.start(SOCK_PRESENCE_GRACE=0)
    person = Person()
    process.join(person)
    process.end(person)
    process.turn()
    assert process.read() == {}


def test_the_end_of_a_connection_calls_no_broker(world: World) -> None:
    process = world.start(SOCK_PRESENCE_GRACE=0)
    person = Person()
    process.join(person)
    process.watch(person)
    del process.broker.calls[:]
    process.end(person)
    assert process.broker.calls == []


def test_a_closed_connection_cannot_join(world: World) -> None:
    process = world.start()
    person = Person()
    process.end(person)
    with pytest.raises(ConnectionClosed):
        process.join(person)
    assert len(process.keeper) == 0


# The broker away


def test_who_joins_while_it_is_away_is_there_when_it_is_back(world: World) -> None:
    process, other = world.start(), world.start()
    process.broker.cut()
    process.join(Person())
    with pytest.raises(BrokerError):
        process.read()
    assert other.read() == {}
    process.broker.restore()
    world.run(1)
    assert other.read() == {"7": [{}]}


def test_who_leaves_while_it_is_away_is_gone_when_it_is_back(world: World) -> None:
    process, other = world.start(), world.start()
    person, gone = Person("7"), Person("8")
    process.join(person)
    process.join(gone)
    process.broker.cut()
    process.leave(person)
    process.end(gone)
    world.run(GRACE + 1)
    assert other.read() == {"7": [{}], "8": [{}]}
    process.broker.restore()
    world.run(2 * GRACE)
    assert other.read() == {}


def test_one_who_went_elsewhere_while_it_was_away_has_not_left(world: World) -> None:
    """Whichever of the two processes reaches it first."""
    one, other = world.start(), world.start()
    watcher, person = world.start().watch(), Person()
    one.join(person)
    for process in (one, other):
        process.broker.cut()
    one.end(person)
    other.join(Person())
    world.run(GRACE + 1)
    one.broker.restore()
    world.run(5)
    other.broker.restore()
    world.run(2 * LEASE)
    assert watcher.take() == [("state", {}), ("join", "7")]


def test_many_who_come_and_go_while_it_is_away_leave_nothing(world: World) -> None:
    process = world.start(SOCK_PRESENCE_GRACE=0)
    process.broker.cut()
    for _ in range(50):
        person = Person()
        process.join(person)
        process.end(person)
        process.turn()
    keeper = process.keeper
    assert len(keeper._members.get("room", ())) <= 1
    assert len(keeper._changed) <= 1


def test_what_was_not_answered_cannot_come_late(world: World) -> None:
    """The broker's server had it all the time, and does it after all that came since."""
    process, other = world.start(), world.start()
    process.join(Person("8"))
    person = Person("7")
    process.broker.delays_puts = True
    process.join(person)
    process.leave(person)
    process.broker.delays_puts = False
    world.run(1)
    assert other.read() == {"8": [{}]}
    for late in process.broker.late:
        late()
    assert other.read() == {"8": [{}]}


def test_what_was_done_without_an_answer_is_done_once(world: World) -> None:
    process, other = world.start(), world.start()
    watcher = other.watch()
    process.broker.loses_answers = True
    process.join(Person())
    process.broker.loses_answers = False
    world.run(1)
    assert watcher.take() == [("state", {}), ("join", "7")]


# Leases


def test_members_of_a_killed_process_are_gone_within_the_lease(world: World) -> None:
    process, other = world.start(), world.start()
    watcher = other.watch()
    for key in "789":
        process.join(Person(key))
    other.join(Person("7"))
    world.run(LEASE)
    watcher.take()
    process.kill()
    world.run(LEASE)
    assert sorted(watcher.take()) == [("leave", "8"), ("leave", "9")]
    assert other.read() == {"7": [{}]}
    world.run(2 * LEASE)
    assert watcher.take() == []


def test_who_only_asks_does_not_see_them_either(world: World) -> None:
    process, other = world.start(), world.start()
    process.join(Person())
    world.run(1)
    process.kill()
    world.run(LEASE)
    assert other.read() == {}


def test_members_of_a_process_that_lives_stay(world: World) -> None:
    process, other = world.start(), world.start()
    watcher = other.watch()
    process.join(Person())
    world.run(20 * LEASE)
    assert watcher.take() == [("state", {}), ("join", "7")]


def test_a_process_that_was_cut_off_comes_back_with_its_members(world: World) -> None:
    process, other = world.start(), world.start()
    watcher = other.watch()
    process.join(Person())
    world.run(LEASE)
    process.broker.cut()
    world.run(2 * LEASE)
    assert watcher.take() == [("state", {}), ("join", "7"), ("leave", "7")]
    process.broker.restore()
    world.run(1)
    assert watcher.take() == [("join", "7")]


def test_where_the_broker_was_away_for_all_nobody_has_left(world: World) -> None:
    """Their leases have run out meanwhile."""
    one, other = world.start(), world.start()
    watchers = [one.watch(), other.watch()]
    one.join(Person("7"))
    other.join(Person("8"))
    world.run(LEASE)
    for process in (one, other):
        process.broker.cut()
    world.run(3 * LEASE)
    one.broker.restore()
    world.run(4)
    other.broker.restore()
    world.run(3 * LEASE)
    for watcher in watchers:
        assert watcher.take() == [("state", {}), ("join", "7"), ("join", "8")]


def test_a_broker_that_has_lost_everything_is_told_again(world: World) -> None:
    one, other = world.start(), world.start()
    watcher = other.watch()
    one.join(Person("7"))
    other.join(Person("8"))
    world.run(1)
    watcher.take()
    world.hall.table.close()
    world.run(LEASE)
    assert one.read() == {"7": [{}], "8": [{}]}
    assert watcher.take() == []


def test_what_an_answer_that_did_not_come_called_lost_is_told_again(world: World) -> None:
    """The next one says that the lease is held."""
    process, other = world.start(), world.start()
    process.join(Person("7"))
    world.run(1)
    world.hall.table.close()
    process.broker.loses_renewals = True
    world.run(LEASE / 4)
    process.broker.loses_renewals = False
    world.run(LEASE)
    assert other.read() == {"7": [{}]}


def test_a_channel_that_the_broker_has_lost_alone_is_told_again(world: World) -> None:
    process = world.start()
    process.join(Person("7"))
    world.run(1)
    del world.hall.table._records[ROOM]
    world.run(601, step=2)
    assert process.read() == {"7": [{}]}


def test_a_server_that_is_away_concerns_its_own_channels_only(world: World) -> None:
    """Where the broker is a cluster."""
    process, other = world.start(), world.start()
    process.broker.lost.add(ROOM)
    process.join(Person("7"))
    for channel in ("here", "there"):
        process.join(Person("8"), channel)
        assert other.read(channel) == {"8": [{}]}
    assert other.read() == {}
    process.broker.lost.clear()
    world.run(LEASE)
    assert other.read() == {"7": [{}]}


def test_a_process_that_ends_leaves_its_members_for_the_grace(world: World) -> None:
    process, other = world.start(), world.start()
    process.join(Person("7"))
    world.run(1)
    process.keeper.close()
    process.kill()
    assert other.read() == {"7": [{}]}
    world.run(GRACE)
    assert other.read() == {}


def test_who_waits_for_nothing_needs_no_thread(world: World) -> None:
    process = world.start()
    person = Person()
    process.join(person)
    watcher = process.watch()
    assert process.keeper._has_work()
    process.leave(person)
    assert process.keeper._has_work()
    process.end(watcher)
    assert not process.keeper._has_work()


@pytest.mark.parametrize("rooms", [1, 30])
def test_members_stay_while_others_come_and_go_all_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch, rooms: int
) -> None:
    """One after the other, and many at once: more than can be told in the time of the lease."""
    process, other = world.start(), world.start()
    watcher = other.watch()
    process.join(Person("7"))
    world.run(LEASE)
    change, end = process.broker.change_members, world.now + 2 * LEASE

    def come(number: int) -> None:
        process.channels.attendance.join(
            Person(),  # type: ignore[arg-type]
            f"lobby {number}",
            make_entry("8", None, json.dumps, 1000),
            limit=9,
        )

    def change_slowly(*args: Any) -> bool:
        world.now += 1
        assert world.now < end + LEASE, "It is told for ever."
        other.turn()
        if rooms == 1 and world.now < end:
            come(1)
        return change(*args)

    monkeypatch.setattr(process.broker, "change_members", change_slowly)
    for number in range(rooms):
        come(number)
    process.turn()
    assert world.now >= end
    world.heal()
    assert watcher.take() == [("state", {}), ("join", "7")]


def test_in_memory_who_joins_while_the_thread_works_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when it has just looked for the last time."""
    monkeypatch.setattr("flask_ws.presence.keeper.Worker.start", lambda _: None)
    broker = MemoryBroker()
    broker.start(lambda *_: None)
    keeper = Keeper(broker, "", "lease:1", grace=GRACE, seconds=math.inf)
    gone: Any = Person()
    come: Any = Person()
    keeper.join(gone, "room", b"gone", 9)
    keeper.forget(gone)
    now = time.monotonic() + 2 * GRACE

    def join_once_told() -> float:
        if come not in keeper._own and not broker.read_members("room").members:
            keeper.join(come, "room", b"here", 9)
        return now

    monkeypatch.setattr("flask_ws.presence.keeper.time", SimpleNamespace(monotonic=join_once_told))
    keeper.turn()
    assert list(broker.read_members("room").members.values()) == [b"here"]


# Those who watch


def test_one_who_begins_to_watch_is_told_all_once(world: World) -> None:
    process = world.start()
    process.join(Person("7"))
    watcher = process.watch()
    process.watch(watcher)
    process.join(Person("8"))
    later = process.watch()
    assert watcher.take() == [("state", {"7": [{}]}), ("join", "8")]
    assert later.take() == [("state", {"7": [{}], "8": [{}]})]


def test_who_comes_in_the_middle_gets_the_state_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its message is made, and before those are found who are sent it."""
    process = world.start()
    process.watch()
    late, group = Person(), Watchers._group

    def come(watchers: Watchers) -> Any:
        monkeypatch.setattr(Watchers, "_group", group)
        watchers.add(late)  # type: ignore[arg-type]
        return group(watchers)

    monkeypatch.setattr(Watchers, "_group", come)
    process.join(Person("7"))
    assert late.take() == []


def test_one_who_watches_no_more_is_told_nothing(world: World) -> None:
    process = world.start()
    watcher = process.watch()
    process.channels.unwatch(watcher, "room")  # type: ignore[arg-type]
    process.join(Person())
    assert watcher.take() == [("state", {})]
    assert process.broker.subscribed == set()


def test_while_the_broker_is_away_one_waits_for_the_state(world: World) -> None:
    process, other = world.start(), world.start()
    other.join(Person("7"))
    process.broker.cut()
    watcher = process.watch()
    world.run(5)
    assert watcher.take() == []
    process.broker.restore()
    world.run(1)
    assert watcher.take() == [("state", {"7": [{}]})]


def test_of_what_was_missed_the_difference_is_told(world: World) -> None:
    process, other = world.start(), world.start()
    gone, there = Person("7"), Person("8")
    other.join(gone)
    other.join(there)
    watcher = process.watch()
    process.broker.cut()
    other.leave(gone)
    other.leave(there)
    other.join(there)
    other.join(Person("9"))
    process.broker.restore()
    world.run(1)
    assert watcher.take() == [("state", {"7": [{}], "8": [{}]}), ("leave", "7"), ("join", "9")]


def test_a_hole_is_filled_before_what_comes_after_it(world: World) -> None:
    process, other = world.start(), world.start()
    watcher = process.watch()
    process.broker.is_deaf_now = True
    other.join(Person("7"))
    process.broker.is_deaf_now = False
    other.join(Person("8"))
    other.join(Person("9"))
    world.run()
    assert watcher.take() == [("state", {}), ("join", "7"), ("join", "8"), ("join", "9")]


def test_one_who_watches_hears_of_it_when_the_broker_has_lost_all(world: World) -> None:
    """Though nobody puts anybody again."""
    process, other = world.start(), world.start()
    watcher, person = process.watch(), Person()
    other.join(person)
    world.run(1)
    world.hall.table.close()
    other.leave(person)
    world.run(2 * LEASE)
    assert watcher.take() == [("state", {}), ("join", "7"), ("leave", "7")]


def test_what_comes_twice_is_told_once(world: World) -> None:
    process = world.start()
    watcher = process.watch()
    changes: list[tuple[bytes, Position]] = []
    deliver = process.broker.deliver

    def note(channel: str, payload: bytes, position: Position) -> None:
        changes.append((payload, position))
        deliver(channel, payload, position)

    process.broker.deliver = note
    person = Person()
    process.join(person)
    process.leave(person)
    for payload, position in changes:
        deliver(ROOM, payload, position)
    assert watcher.take() == [("state", {}), ("join", "7"), ("leave", "7")]


def test_what_is_no_change_is_left_out(world: World) -> None:
    process = world.start()
    watcher = process.watch()
    process.broker.deliver(ROOM, b"?", Position("epoch", 1))
    assert watcher.take() == [("state", {})]
