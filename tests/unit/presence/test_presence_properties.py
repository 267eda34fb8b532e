"""The machine on paper: whatever happens, all agree in the end, and nobody is told twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.presence import Person, Process, World

LEASE = 15.0
KEYS = "123456"


class Machine:
    """Processes, the people that are connected to them, and those who watch.

    :param chance: decides what happens.
    """

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.people: list[tuple[Process, Person]] = []
        self.watchers: list[tuple[Process, Person]] = []
        for _ in range(3):
            world.start()

    def process(self) -> Process:
        return self.chance.choice(self.world.processes)

    def join(self) -> None:
        process, person = (
            self.process(),
            Person(self.chance.choice(KEYS), self.chance.randint(0, 1)),
        )
        process.join(person)
        self.people.append((process, person))

    def change(self) -> None:
        if self.people:
            process, person = self.chance.choice(self.people)
            person.info = self.chance.randint(0, 1)
            process.join(person)

    def part(self) -> tuple[Process, Person] | None:
        if not self.people:
            return None
        return self.people.pop(self.chance.randrange(len(self.people)))

    def leave(self) -> None:
        if (parted := self.part()) is not None:
            parted[0].leave(parted[1])

    def end(self) -> None:
        if (parted := self.part()) is not None:
            parted[0].end(parted[1])

    def watch(self) -> None:
        process = self.process()
        self.watchers.append((process, process.watch()))

    def cut(self) -> None:
        self.process().broker.cut()

    def restore(self) -> None:
        self.process().broker.restore()

    def lose_some(self) -> None:
        """Lose changes on their way to a process, which notices that."""
        broker = self.process().broker
        broker.is_deaf_now = True
        self.join()
        self.end()
        broker.is_deaf_now = False
        broker.interrupted()

    def lose_answers(self) -> None:
        broker = self.process().broker
        broker.loses_answers = True
        self.join()
        self.leave()
        broker.loses_answers = False

    def delay(self) -> None:
        """Have what is put arrive after all that comes later."""
        broker = self.process().broker
        broker.delays_puts = True
        self.join()
        self.change()
        self.leave()
        broker.delays_puts = False

    def arrive_late(self) -> None:
        broker = self.process().broker
        late, broker.late = broker.late, []
        for call in late:
            call()

    def kill(self) -> None:
        process = self.process()
        process.kill()
        self.people = [each for each in self.people if each[0] is not process]
        self.watchers = [each for each in self.watchers if each[0] is not process]
        self.world.start()

    def forget(self) -> None:
        """Have the broker lose everything."""
        self.world.hall.table.close()

    def wait(self) -> None:
        self.world.run(self.chance.uniform(0, 8))

    def settle(self) -> None:
        for process in self.world.processes:
            process.broker.restore()
        self.world.run(3 * LEASE)

    def check(self) -> None:
        truth: dict[str, set[int]] = {}
        for _, person in self.people:
            truth.setdefault(person.key, set()).add(person.info)
        there = {key: sorted(infos) for key, infos in truth.items()}
        for process in self.world.processes:
            assert process.read() == there
        for _, watcher in self.watchers:
            assert replay(watcher.got) == there


def replay(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return who is there after all that somebody was told; each of it must say something new."""
    present: dict[str, list[int]] = events[0]["members"]
    for event in events[1:]:
        key, kind = event["key"], event["event"]
        assert (key in present) == (kind != "join"), event
        assert kind in ("join", "change", "leave"), event
        if kind == "leave":
            del present[key]
        else:
            assert present.get(key) != event["infos"], event
            present[key] = event["infos"]
    return present


OFTEN: list[Callable[[Machine], None]] = [
    Machine.join,
    Machine.join,
    Machine.change,
    Machine.leave,
    Machine.end,
    Machine.wait,
    Machine.watch,
]
SELDOM: list[Callable[[Machine], None]] = [
    Machine.cut,
    Machine.restore,
    Machine.restore,
    Machine.lose_some,
    Machine.lose_answers,
    Machine.delay,
    Machine.arrive_late,
    Machine.kill,
    Machine.forget,
]


@pytest.mark.parametrize("seed", range(25))
def test_all_agree_in_the_end_and_are_told_once(world: World, seed: int) -> None:
    chance = random.Random(seed)
    machine = Machine(world, chance)
    for _ in range(80):
        chance.choice(OFTEN if chance.random() < 0.7 else SELDOM)(machine)
    machine.settle()
    machine.check()
