"""Processes that share a broker which tracks presence, and a clock that a test turns."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest

from flask_ws import Broker, BrokerError, Lease, Members, Position
from flask_ws.channels import opening as opening_module
from flask_ws.channels.channels import Channels
from flask_ws.channels.healing import Healer
from flask_ws.concurrency import threads
from flask_ws.exceptions import ConnectionClosed
from flask_ws.plugin.manager import plugins
from flask_ws.plugin.members import MemberTable
from flask_ws.presence import keeper as keeper_module
from flask_ws.presence.entries import make_entry
from flask_ws.protocol.shared import SharedMessage


class Person:
    """A connection, as far as presence needs one, and what it was sent."""

    label = "a connection"
    concurrency = threads
    home = None

    def __init__(self, key: str = "7", info: Any = None) -> None:
        self.key, self.info = key, info
        self.sender = self
        self.got: list[dict[str, Any]] = []
        self.connected = True

    def check_connected(self) -> None:
        if not self.connected:
            raise ConnectionClosed(1006, "")

    def send_shared(self, message: SharedMessage) -> bool:
        self.got.append(json.loads(bytes(message.payload)))
        return True

    queue_shared = send_shared

    def flush(self) -> None:
        pass

    def take(self) -> list[tuple[str, Any]]:
        """Return the events that have come, with what they are about."""
        found, self.got = self.got, []
        return [
            (each["event"], each["members"] if each["event"] == "state" else each["key"])
            for each in found
        ]


class Hall:
    """What the brokers of several processes share."""

    def __init__(self) -> None:
        self.table = MemberTable()
        self.table.deliver = self.bring
        self.brokers: list[HallBroker] = []

    def bring(self, channel: str, payload: bytes, position: Position) -> None:
        for broker in self.brokers:
            if channel in broker.subscribed and not broker.is_cut and not broker.is_deaf_now:
                broker.deliver(channel, payload, position)


class HallBroker(Broker):
    """One process's way to it, which may be cut."""

    brings_back = True
    tracks_presence = True

    def __init__(self, hall: Hall) -> None:
        super().__init__()
        self.hall = hall
        self.subscribed: set[str] = set()
        self.calls: list[str] = []
        self.is_cut = self.is_deaf_now = False
        # Whether what is put arrives, and its answer does not; the same of renewals; and what has
        # not arrived yet.
        self.loses_answers = self.loses_renewals = self.delays_puts = False
        self.late: list[Callable[[], object]] = []
        # Channels that are at a server which cannot be reached.
        self.lost: set[str] = set()

    def start(self, deliver: Callable[..., object]) -> None:
        self.deliver = deliver
        self.hall.brokers.append(self)

    def _call(self, name: str) -> MemberTable:
        self.calls.append(name)
        if self.is_cut:
            raise BrokerError("cut")
        return self.hall.table

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        table = self._call("change")
        if channel in self.lost:
            raise BrokerError("lost")
        if self.delays_puts:
            self.late.append(lambda: table.change(channel, lease, put, dropped))
            raise BrokerError("no answer")
        answer = table.change(channel, lease, put, dropped)
        if self.loses_answers:
            raise BrokerError("no answer")
        return answer

    def read_members(self, channel: str) -> Members:
        return self._call("read").read(channel)

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str] | None:
        answer = self._call("renew").renew(lease, seconds)
        if self.loses_renewals or not self.lost.isdisjoint(channels):
            raise BrokerError("no answer")
        return answer

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        self._call("expire").expire(leases)

    def subscribe(self, channel: str) -> None:
        self.subscribed.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self.subscribed.discard(channel)

    def is_deaf(self, channel: str) -> bool:
        return self.is_cut

    def close(self) -> None:
        pass

    def cut(self) -> None:
        """Cut it off."""
        self.is_cut = True
        self.went_away("cut")

    def restore(self) -> None:
        """Let it reach the others again."""
        self.is_cut = False
        self.came_back()


class World:
    """Processes that share a hall, and their clock. No thread runs but the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.hall = Hall()
        self.processes: list[Process] = []
        self._sick: list[Any] = []
        monkeypatch.setattr("flask_ws.presence.keeper.time.monotonic", lambda: self.now)
        monkeypatch.setattr(keeper_module, "PATIENCE", 0.0)
        monkeypatch.setattr(Healer, "add", lambda _, subscribers: self._sick.append(subscribers))
        monkeypatch.setattr("flask_ws.presence.keeper.Worker.start", lambda _: None)
        monkeypatch.setattr(plugins, "open_broker", lambda _: HallBroker(self.hall))

    def start(self, **config: Any) -> Process:
        """Start a process."""
        process = Process(self, config)
        self.processes.append(process)
        return process

    def run(self, seconds: float = 0.0, step: float = 0.5) -> None:
        """Let time pass, and all threads do their work."""
        end = self.now + seconds
        while True:
            for process in list(self.processes):
                process.turn()
            self.heal()
            if self.now >= end:
                return
            self.now = min(self.now + step, end)

    def heal(self) -> None:
        """Let all that wait for it read the members, once."""
        sick, self._sick = self._sick, []
        for subscribers in dict.fromkeys(sick):
            try:
                is_healed = not subscribers or subscribers.heal()
            except BrokerError:
                is_healed = False
            if not is_healed:
                self._sick.append(subscribers)

    def close(self) -> None:
        """End all processes."""
        opening_module._open.clear()


class Process:
    """The channels of one process."""

    def __init__(self, world: World, config: dict[str, Any]) -> None:
        self.world = world
        self.channels = Channels({"SOCK_BROKER_URL": "hall://"} | config)
        self.keeper = self.channels.attendance.open().keeper
        broker = self.keeper.broker
        assert isinstance(broker, HallBroker)
        self.broker = broker

    def turn(self) -> None:
        """Let its thread do what there is to do."""
        if self.keeper._has_work():
            self.keeper.turn()

    def join(self, person: Person, channel: str = "room", limit: int = 9) -> None:
        """Have a person join, and its thread tell the broker."""
        data = make_entry(person.key, person.info, json.dumps, 1000)
        self.channels.attendance.join(person, channel, data, limit=limit)  # type: ignore[arg-type]
        self.turn()

    def leave(self, person: Person, channel: str = "room") -> None:
        """Have a person leave."""
        self.channels.attendance.leave(person, channel)  # type: ignore[arg-type]
        self.turn()

    def end(self, person: Person) -> None:
        """End the connection."""
        person.connected = False
        self.channels.forget(person)  # type: ignore[arg-type]

    def watch(self, person: Person | None = None, channel: str = "room") -> Person:
        """Have a person told who is there."""
        person = person or Person()
        self.channels.watch(person, channel, limit=9)  # type: ignore[arg-type]
        return person

    def read(self, channel: str = "room") -> dict[str, Any]:
        """Return who is there."""
        found: dict[str, Any] = json.loads(self.channels.attendance.read(channel))
        return found

    def kill(self) -> None:
        """End it at once: nothing more is heard of it."""
        self.world.processes.remove(self)
        self.broker.is_cut = True
