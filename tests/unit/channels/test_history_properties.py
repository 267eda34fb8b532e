"""Every subscriber gets a run of positions without a hole, or is told of a gap.

Random publishers, subscribers that leave and come back, cut connections, and a broker that is
restarted empty: in several processes, of which each is the real thing but for its connections.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from flask_ws import Broker, BrokerError, History, Position, Retention, Subscription
from flask_ws.channels import opening as opening_module
from flask_ws.channels.channels import Channels
from flask_ws.channels.history import KeptSubscribers
from flask_ws.concurrency import threads
from flask_ws.plugin.brokers import Deliver
from flask_ws.plugin.manager import plugins
from flask_ws.protocol.shared import SharedMessage

GAP = "(gap)"
KEPT = 4
CONFIG = {"SOCK_HISTORY": {"n*": (KEPT, 600)}}
CHANNEL = "news"
PROCESSES = 3


class Server:
    """What a broker's server keeps; it may be restarted."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.epochs = itertools.count()
        self.restart()

    def restart(self) -> None:
        """Lose everything."""
        self.epoch = f"epoch{next(self.epochs)}"
        self.log: list[bytes] = []


class Link(Broker):
    """The broker in one process. What is published waits to be brought."""

    brings_back = keeps_history = True

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.waiting: list[tuple[str, bytes, Position]] = []
        self.is_subscribed = self.is_cut = self.fails_late = False
        self.on_read: Callable[[], object] = lambda: None

    def start(self, deliver: Deliver) -> None:
        self.deliver = deliver
        self.server.links.append(self)

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        if self.is_cut:
            raise BrokerError("away")
        position = self.keep(channel, payload, retention)
        self.server.log.append(payload)
        for link in self.server.links:
            if link.is_subscribed and not link.is_cut:
                link.waiting.append((channel, payload, position))
        if self.fails_late:
            raise BrokerError("no answer")
        return position

    def keep(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Give the next message a position."""
        return Position(self.server.epoch, len(self.server.log) + 1)

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        if self.is_cut:
            raise BrokerError("away")
        on_read, self.on_read = self.on_read, lambda: None
        on_read()
        log = list(enumerate(self.server.log, 1))
        position = Position(self.server.epoch, len(log))
        if since is None:
            return History(position, [])
        after = since.offset if since.epoch == position.epoch else 0
        kept = log[-retention.messages :]
        return History(position, [each for each in kept if each[0] > after])

    def subscribe(self, channel: str) -> None:
        self.is_subscribed = True

    def unsubscribe(self, channel: str) -> None:
        self.is_subscribed = False

    def is_deaf(self, channel: str) -> bool:
        return self.is_cut

    def bring(self, number: int) -> None:
        for _ in range(min(number, len(self.waiting))):
            self.deliver(*self.waiting.pop(0))

    def cut(self) -> None:
        """Lose the connection, and what was on its way."""
        self.is_cut = True
        self.waiting.clear()
        self.went_away("cut")

    def mend(self) -> None:
        self.is_cut = False
        self.came_back()

    def close(self) -> None:
        pass


class Healers:
    """In place of the thread: channels read their histories when they are told to."""

    def __init__(self) -> None:
        self.ill: dict[KeptSubscribers, None] = {}

    def add(self, subscribers: KeptSubscribers) -> None:
        self.ill[subscribers] = None

    def note_gap(self, name: str) -> None:
        pass

    def wake(self) -> None:
        pass

    def heal(self) -> None:
        for subscribers in list(self.ill):
            del self.ill[subscribers]
            try:
                if subscribers and not subscribers.heal():
                    self.ill[subscribers] = None
            except BrokerError:
                self.ill[subscribers] = None


class Connection:
    """As much of one as is needed, and what it was sent."""

    label = "a connection"
    concurrency = threads
    home = None
    connected = True

    def __init__(self) -> None:
        self.got: list[str] = []
        self.sender = self
        self.subscription: Subscription | None = None
        self.since: Position | None = None

    def check_connected(self) -> None:
        pass

    def send_shared(self, message: SharedMessage) -> bool:
        self.got.append(bytes(message.payload).decode())
        return True

    queue_shared = send_shared

    def flush(self) -> None:
        pass

    def overflow(self) -> None:
        raise AssertionError


class Machine:
    """Some processes, their connections, and what was published."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = Server()
        self.healers: list[Healers] = []
        monkeypatch.setattr(plugins, "open_broker", lambda url: Link(self.server))
        monkeypatch.setattr(opening_module, "Healer", self.make_healer)
        self.processes = [Channels(CONFIG) for _ in range(PROCESSES)]
        for process in self.processes:
            process._get()
        self.places: dict[str, Position] = {}
        self.here: list[list[Connection]] = [[] for _ in range(PROCESSES)]
        self.left: list[Position] = []
        self.all: list[Connection] = []
        self.numbers = itertools.count()

    def make_healer(self) -> Healers:
        self.healers.append(Healers())
        return self.healers[-1]

    def link(self, process: int) -> Link:
        return self.server.links[process]

    # What may happen

    def publish(self, process: int, fails_late: int) -> None:
        text = f"message {next(self.numbers)}"
        link = self.link(process)
        link.fails_late = fails_late == 0
        published = self.processes[process].publish(CHANNEL, text)
        link.fails_late = False
        if published.position is not None:
            place = Position.parse(published.position)
            assert place is not None
            self.places[text] = place

    def bring(self, process: int, number: int) -> None:
        self.link(process).bring(number + 1)

    def cut(self, process: int, _: int) -> None:
        self.link(process).cut()

    def mend(self, process: int, _: int) -> None:
        self.link(process).mend()

    def heal(self, process: int, _: int) -> None:
        self.healers[process].heal()

    def subscribe(self, process: int, number: int) -> None:
        since = None if number == 0 or not self.left else self.left.pop()
        self._subscribe(process, None if since is None else str(since), since)

    def subscribe_to_all(self, process: int, _: int) -> None:
        self._subscribe(process, "all", None)

    def _subscribe(self, process: int, since: str | None, place: Position | None) -> None:
        connection = Connection()
        connection.since = place
        connection.subscription = self.processes[process].subscribe(
            connection,  # type: ignore[arg-type]
            CHANNEL,
            limit=9,
            since=since,
            gap=GAP,
        )
        self.here[process].append(connection)
        self.all.append(connection)

    def leave(self, process: int, number: int) -> None:
        connections = self.here[process]
        if connections:
            connection = connections.pop(number % len(connections))
            self.processes[process].forget(connection)  # type: ignore[arg-type]
            assert connection.subscription is not None
            known = [self.places[text] for text in connection.got if text in self.places]
            position = connection.subscription.position
            place = None if position is None else Position.parse(position)
            if known or place is not None:
                self.left.append(known[-1] if known else place)  # type: ignore[arg-type]

    def restart(self, _: int, __: int) -> None:
        for link in self.server.links:
            link.cut()
        self.server.restart()

    # What must be so

    def settle(self) -> None:
        """All is well again, and quiet."""
        for process in range(PROCESSES):
            self.mend(process, 0)
        for process in range(PROCESSES):
            self.heal(process, 0)
            self.bring(process, sys.maxsize - 1)
            self.heal(process, 0)

    def check(self) -> None:
        for connection in self.all:
            self.check_one(connection)
        log = [payload[18:].decode() for payload in self.server.log]
        for connection in itertools.chain(*self.here):
            # It has come to the end.
            wanted = log[self.start(connection, log) :]
            assert set(wanted[-1:]) <= set(connection.got), (wanted, connection.got)

    def start(self, connection: Connection, log: list[str]) -> int:
        assert connection.subscription is not None
        position = connection.subscription.position
        place = None if position is None else Position.parse(position)
        if place is None:
            return len(log)
        return place.offset if place.epoch == self.server.epoch else 0

    def check_one(self, connection: Connection) -> None:
        got, subscription = connection.got, connection.subscription
        assert subscription is not None
        texts = [text for text in got if text != GAP]
        assert len(texts) == len(set(texts)), "twice"
        place = connection.since
        if place is None and subscription.position is not None and not subscription.recovered:
            place = Position.parse(subscription.position)
        may_jump = place is None
        by_place = {place: text for text, place in self.places.items()}
        for text in got:
            if text == GAP:
                may_jump = True
            elif text in self.places:
                now = self.places[text]
                if place is not None and now.epoch == place.epoch:
                    assert now > place, ("order", got)
                if not may_jump:
                    assert place is not None
                    assert now.epoch == place.epoch, ("no gap was told", got)
                    for offset in range(place.offset + 1, now.offset):
                        skipped = by_place.get(Position(now.epoch, offset))
                        # What has no answer was sent early, without a position.
                        assert skipped is None or skipped in texts, ("hole", got, skipped)
                place, may_jump = now, False


ACTIONS = [
    *[Machine.publish, Machine.bring] * 4,
    *[Machine.subscribe, Machine.subscribe, Machine.leave] * 2,
    Machine.subscribe_to_all,
    *[Machine.cut, Machine.mend, Machine.heal] * 2,
    Machine.restart,
]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    yield Machine(monkeypatch)
    opening_module.close_brokers()


def come_back(machine: Machine) -> None:
    """Leave a position behind that two messages come after, of which one has arrived."""
    machine.publish(0, 1)
    machine.subscribe(0, 0)
    machine.subscribe(0, 0)
    machine.leave(0, 1)
    machine.publish(0, 1)
    machine.bring(0, 5)


def test_what_fails_while_its_history_is_read_comes_once(machine: Machine) -> None:
    """The broker has taken it, and who joins reads it there."""
    come_back(machine)
    machine.link(0).on_read = lambda: machine.publish(0, 0)
    machine.subscribe(0, 1)
    machine.settle()
    assert machine.all[-1].got == ["message 1", "message 2"]
    machine.check()


def test_what_fails_after_its_history_was_read_comes_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who joins has read it before its publisher knows that there is no answer."""
    come_back(machine)
    publish = Link.publish_kept

    def publish_slowly(link: Link, *args: Any) -> Position:
        try:
            return publish(link, *args)
        finally:
            machine.subscribe(0, 1)

    monkeypatch.setattr(Link, "publish_kept", publish_slowly)
    machine.publish(0, 0)
    machine.settle()
    assert machine.all[-1].got == ["message 1", "message 2"]
    machine.check()


def test_one_who_was_elsewhere_gets_nothing_twice_where_the_broker_is_away(
    machine: Machine,
) -> None:
    """A broker that was restarted empty is known to another process before it is here."""
    machine.publish(0, 1)
    machine.subscribe(1, 0)
    machine.restart(0, 0)
    machine.mend(0, 0)
    machine.publish(0, 1)
    # It has got that, and comes here.
    machine.left.append(Position(machine.server.epoch, 1))
    machine.subscribe(1, 1)
    machine.settle()
    machine.publish(0, 1)
    machine.settle()
    assert [text for text in machine.all[-1].got if text != GAP] == ["message 2"]
    machine.check()


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.integers(0, PROCESSES - 1), st.integers(0, 5)),
        max_size=60,
    )
)
def test_no_hole_nothing_twice_or_a_gap(
    actions: list[tuple[Callable[[Machine, int, int], None], int, int]],
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(logging.getLogger("flask_ws"), "disabled", True)
        machine = Machine(monkeypatch)
        for action, process, number in actions:
            action(machine, process, number)
        machine.settle()
        opening_module.close_brokers()
        machine.check()
