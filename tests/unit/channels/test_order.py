"""One order for a channel: for all its subscribers, whoever publishes, in whichever process."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest
from tests.support.locks import Watch
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE

from flask_ws import Broker, BrokerError
from flask_ws.channels import opening as opening_module
from flask_ws.channels import subscribers as subscribers_module
from flask_ws.channels.channels import Channels
from flask_ws.concurrency import HomeThread, threads
from flask_ws.plugin.manager import plugins
from flask_ws.protocol.frames import TEXT
from flask_ws.protocol.shared import SharedMessage


class Connection:
    """As much of one as a fan-out needs, and what it was sent."""

    label = "a connection"
    concurrency = threads

    def __init__(self, home: HomeThread | None = None) -> None:
        self.home = home
        self.got: list[str] = []
        self.sender = self
        self.is_slow = False
        self.overflows = 0

    def check_connected(self) -> None:
        pass

    def send_shared(self, message: SharedMessage) -> bool:
        self.got.append(bytes(message.payload).decode())
        return not self.is_slow

    def overflow(self) -> None:
        self.overflows += 1


class Ordered(Broker):
    """A broker that brings every process everything, once it is let go."""

    brings_back = True

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.subscribed: set[str] = set()
        self.deaf = False

    def start(self, deliver: Callable[[str, bytes], object]) -> None:
        self.deliver = deliver
        self.network.brokers.append(self)

    def publish(self, channel: str, payload: bytes) -> None:
        if self.network.refuses:
            raise BrokerError("away")
        self.network.waiting.append((channel, payload))
        if not self.network.holds:
            self.network.bring()
        if self.network.fails_late:
            raise BrokerError("no answer")

    def subscribe(self, channel: str) -> None:
        self.subscribed.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self.subscribed.discard(channel)

    def is_deaf(self, channel: str) -> bool:
        return self.deaf

    def close(self) -> None:
        pass


class Network:
    """What the brokers of several processes share."""

    def __init__(self) -> None:
        self.brokers: list[Ordered] = []
        self.waiting: list[tuple[str, bytes]] = []
        self.holds = self.refuses = self.fails_late = False
        self._lock = threading.Lock()

    def bring(self) -> None:
        with self._lock:
            while self.waiting:
                channel, payload = self.waiting.pop(0)
                for broker in self.brokers:
                    if channel in broker.subscribed:
                        broker.deliver(channel, payload)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    network = Network()
    monkeypatch.setattr(plugins, "open_broker", lambda url: Ordered(network))
    yield network
    opening_module.close_brokers()


class Process:
    """The channels of a process, and two of its connections."""

    def __init__(self) -> None:
        self.channels = Channels({})
        self.one, self.other = Connection(), Connection()
        for each in (self.one, self.other):
            self.channels.subscribe(each, "news", limit=9)  # type: ignore[arg-type]

    def publish(self, data: str, excluded: Collection[Any] = ()) -> bool:
        return bool(self.channels.publish("news", data, excluded))


@pytest.fixture
def process(network: Network) -> Process:
    return Process()


# In one process


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def publish_at_once(*processes: Process) -> None:
    """Four publishers, each of which calls again when its call has returned."""

    def publish(name: int) -> None:
        for number in range(100):
            processes[name % len(processes)].publish(f"{name} {number}")

    for each in [in_thread(publish, name) for name in range(4)]:
        each.result(PATIENCE)


@pytest.mark.usefixtures("hasty")
def test_all_subscribers_of_a_process_have_one_order() -> None:
    process = Process()
    publish_at_once(process)
    assert process.one.got == process.other.got
    assert len(process.one.got) == 400
    for name in range(4):
        own = [text for text in process.one.got if text.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(100)]


def test_who_publishes_while_another_sends_returns_when_its_message_is_sent() -> None:
    """So what it sends by itself comes after it."""
    subscribers = subscribers_module.Subscribers()
    begun, may_end = threading.Event(), threading.Event()

    class Slow(Connection):
        def send_shared(self, message: SharedMessage) -> bool:
            begun.set()
            assert may_end.wait(PATIENCE)
            return super().send_shared(message)

    slow = Slow()
    subscribers.add(slow)  # type: ignore[arg-type]
    first = in_thread(subscribers.send, SharedMessage(TEXT, b"first"))
    assert begun.wait(PATIENCE)
    second = in_thread(subscribers.send, SharedMessage(TEXT, b"second"))
    may_end.set()
    second.result(PATIENCE)
    assert slow.got == ["first", "second"]
    first.result(PATIENCE)


def test_one_who_publishes_while_it_sends_waits_for_nobody() -> None:
    """As a signal's handler may, in the midst of it."""
    subscribers = subscribers_module.Subscribers()

    class Publishing(Connection):
        def send_shared(self, message: SharedMessage) -> bool:
            if message.payload == b"first":
                subscribers.send(SharedMessage(TEXT, b"second"))
            return super().send_shared(message)

    both = Publishing(), Publishing()
    for each in both:
        subscribers.add(each)  # type: ignore[arg-type]
    in_thread(subscribers.send, SharedMessage(TEXT, b"first")).result(PATIENCE)
    assert [each.got for each in both] == [["first", "second", "second"]] * 2


def test_a_slow_reader_is_seen_to_when_all_have_been_sent_it(watch: Watch) -> None:
    """What has to be logged, or waits for a lock, has no place among the sending."""
    subscribers = subscribers_module.Subscribers()
    slow, failing, last = Connection(), Connection(), Connection()
    slow.is_slow = True
    failing.send_shared = lambda message: bool(1 / 0)  # type: ignore[method-assign]
    for each in (slow, failing, last):
        subscribers.add(each)  # type: ignore[arg-type]
    slow.overflow = lambda: last.got.append("seen to")  # type: ignore[method-assign]
    subscribers.send(SharedMessage(TEXT, b"a"))
    assert last.got == ["a", "seen to"]
    assert watch.lines == ["a connection: a publication could not be delivered."]


def test_a_slow_reader_is_handled_in_its_own_thread() -> None:
    class Elsewhere(HomeThread):
        def is_here(self) -> bool:
            return False

        def wake(self) -> None:
            pass

    home = Elsewhere()
    slow = Connection(home)
    slow.is_slow = True
    subscribers = subscribers_module.Subscribers()
    subscribers.add(slow)  # type: ignore[arg-type]
    subscribers.send(SharedMessage(TEXT, b"a"))
    assert slow.overflows == 0
    home.work()
    assert (slow.got, slow.overflows) == (["a"], 1)


# In many


@pytest.mark.usefixtures("hasty")
def test_all_subscribers_of_all_processes_have_one_order(network: Network) -> None:
    here, there = Process(), Process()
    publish_at_once(here, there)
    assert len(here.one.got) == 400
    assert here.one.got == here.other.got == there.one.got == there.other.got


def test_a_processs_own_get_it_when_the_broker_brings_it(
    network: Network, process: Process
) -> None:
    network.holds = True
    assert process.publish("a")
    assert process.one.got == []
    network.bring()
    assert process.one.got == process.other.got == ["a"]


def test_whom_the_publisher_excludes_gets_nothing_when_it_is_brought(
    network: Network, process: Process
) -> None:
    network.holds = True
    process.publish("a", [process.one])
    network.bring()
    assert (process.one.got, process.other.got) == ([], ["a"])


def test_while_the_broker_is_away_a_processs_own_get_it_at_once(
    network: Network, process: Process
) -> None:
    network.refuses = True
    assert not process.publish("a", [process.one])
    assert (process.one.got, process.other.got) == ([], ["a"])


def test_what_has_failed_and_arrived_all_the_same_arrives_once(
    network: Network, process: Process
) -> None:
    """The broker's answer was lost, and the publication was not."""
    there = Process()
    network.holds = network.fails_late = True
    assert not process.publish("a")
    network.bring()
    assert process.one.got == there.one.got == ["a"]


def test_what_the_broker_lost_is_sent_once_that_is_known(
    network: Network, process: Process
) -> None:
    """And once, should it come in the end."""
    network.holds = True
    assert process.publish("a")
    assert process.publish("b")
    network.brokers[0].went_away("lost")
    assert process.one.got == ["a", "b"]
    network.bring()
    assert process.one.got == ["a", "b"]


@pytest.mark.parametrize("channel", ["flask_ws:news", "flask_ws:other"])
def test_one_channel_alone_may_have_lost_something(
    network: Network, process: Process, channel: str
) -> None:
    network.holds = True
    process.publish("a")
    network.brokers[0].interrupted(channel)
    assert process.one.got == (["a"] if channel == "flask_ws:news" else [])


def test_what_was_lost_while_it_was_published_is_sent_as_well(
    network: Network, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ordered, "publish", lambda broker, channel, _: broker.interrupted())
    assert process.publish("a")
    assert process.one.got == ["a"]


def test_where_the_broker_brings_nothing_they_get_it_at_once(
    network: Network, process: Process
) -> None:
    """Such as on a channel that this process may not hear."""
    network.holds = network.brokers[0].deaf = True
    assert process.publish("a")
    assert process.one.got == ["a"]
    network.bring()
    assert process.one.got == ["a"]


def test_what_was_lost_without_a_word_is_sent_before_the_next(
    network: Network, process: Process
) -> None:
    network.holds = True
    process.publish("a")
    network.waiting.clear()
    process.publish("b")
    network.bring()
    assert process.one.got == ["a", "b"]


def test_what_fails_comes_after_what_was_taken_before_it(
    network: Network, process: Process
) -> None:
    """Whoever hears first that the broker is away."""
    network.holds = True
    process.publish("a")
    network.refuses = True
    network.brokers[0].on_interruption = None
    assert not process.publish("b")
    assert process.one.got == ["a", "b"]
    network.bring()
    assert process.one.got == ["a", "b"]


def test_nothing_is_kept_of_what_has_arrived(network: Network, process: Process) -> None:
    for number in range(10):
        process.publish(str(number))
    subscriptions = process.channels.subscriptions
    assert subscriptions is not None
    subscribers = subscriptions.get("news")
    assert subscribers is not None
    assert subscribers._owns == {}
