"""Functions that are called for what is published."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask import Flask
from tests.support.server import wait_until

from flask_ws import Broker, BrokerError, ConfigurationError, Message, Sock
from flask_ws.channels import hooks, listening, opening
from flask_ws.plugin.manager import plugins

#: Seconds after which a test has failed.
PATIENCE = 10.0


class Network:
    """What the processes of an app have in common, and what was used there."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.used: set[str] = set()
        self.away = False

    def process(self, *declared: Callable[[Sock], object], **config: Any) -> Process:
        return Process(declared, SOCK_BROKER_URL="fake://", **config)


class Link(Broker):
    uses_once = True

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.subscribed: set[str] = set()

    def start(self, deliver: Any) -> None:
        self.deliver = deliver
        self.network.links.append(self)

    def publish(self, channel: str, payload: bytes) -> None:
        if self.network.away:
            raise BrokerError("away")
        for link in self.network.links:
            if link is not self and channel in link.subscribed:
                link.deliver(channel, payload)

    def subscribe(self, channel: str) -> None:
        self.subscribed.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self.subscribed.remove(channel)

    def use_once(self, key: str, seconds: float) -> bool:
        if self.network.away:
            raise BrokerError("away")
        # As one step.
        before = len(self.network.used)
        self.network.used.add(key)
        return len(self.network.used) > before

    def channels(self, prefix: str) -> dict[str, int]:
        return {channel: 1 for link in self.network.links for channel in link.subscribed}

    def close(self) -> None:
        pass


class Process:
    """An app, and the messages that its function got."""

    def __init__(self, declared: tuple[Callable[[Sock], object], ...] = (), **config: Any) -> None:
        self.app = Flask("app")
        self.app.config.update(config)
        self.sock = Sock(self.app)
        self.got: queue.Queue[Message] = queue.Queue()
        for declare in declared:
            declare(self.sock)

    def on_publish(self, pattern: str, **kwargs: Any) -> Process:
        def take(message: Message) -> None:
            assert flask.current_app.name == self.app.name
            self.got.put(message)

        self.sock.on_publish(pattern, **kwargs)(take)
        return self

    def begin(self) -> Process:
        """Have a first request."""
        self.app.test_client().get("/")
        return self

    def publish(self, channel: str, data: Any) -> Any:
        with self.app.app_context():
            return self.sock.publish(channel, data)

    def next(self) -> Message:
        return self.got.get(timeout=PATIENCE)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    network = Network()
    monkeypatch.setattr(plugins, "open_broker", lambda url: Link(network))
    yield network
    opening.close_brokers()


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.mark.parametrize("data", ["text", b"bytes", "", "Ünïcode"])
def test_a_function_gets_what_is_published(process: Process, data: str | bytes) -> None:
    process.on_publish("jobs:*")
    process.publish("jobs:7", data)
    assert process.next() == Message(data, None, after_gap=False, channel="jobs:7")


def test_it_is_called_for_its_channels_alone_and_in_order(process: Process) -> None:
    process.on_publish("jobs:*")
    for number in range(20):
        process.publish("other", "no")
        process.publish(f"jobs:{number % 3}", str(number))
    assert [process.next().data for _ in range(20)] == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("pattern", "channel", "is_called"),
    [
        ("jobs", "jobs", True),
        ("jobs", "jobs:1", False),
        ("jobs:?", "jobs:1", True),
        ("jobs:[a-c]", "jobs:b", True),
        ("jobs:[a-c]", "jobs:d", False),
        ("*", "anything", True),
    ],
)
def test_a_pattern_is_as_for_histories(
    process: Process, pattern: str, channel: str, is_called: bool
) -> None:
    process.on_publish(pattern).on_publish("end")
    process.publish(channel, "message")
    process.publish("end", "end")
    got = {process.next().channel}
    if is_called:
        got.add(process.next().channel)
    assert (channel in got) == is_called


def test_each_function_gets_it(process: Process) -> None:
    """Also one that is declared when the process has begun."""
    process.on_publish("jobs:*").begin()
    process.on_publish("jobs:*").on_publish("*")
    process.publish("jobs:1", "message")
    assert [process.next().data for _ in range(3)] == ["message"] * 3


def test_a_function_may_be_declared_before_the_app_is_there() -> None:
    sock, got = Sock(), queue.Queue[Message]()
    sock.on_publish("jobs")(got.put)
    app = Flask("app")
    sock.init_app(app)
    with app.app_context():
        sock.publish("jobs", "message")
    assert got.get(timeout=PATIENCE).data == "message"


def test_it_is_called_in_every_process(network: Network) -> None:
    processes = [network.process().on_publish("jobs:*").begin() for _ in range(3)]
    processes[0].publish("jobs:1", "message")
    for process in processes:
        assert process.next().data == "message"
        assert process.got.empty()


def test_it_may_be_called_once_in_all(network: Network) -> None:
    processes = [network.process().on_publish("jobs", once=True).begin() for _ in range(3)]
    for number in range(10):
        processes[number % 3].publish("jobs", str(number))

    def count() -> int:
        return sum(process.got.qsize() for process in processes)

    wait_until(lambda: count() == 10)
    for process in processes:
        process.on_publish("end")
        process.publish("end", "")
    for process in processes:
        wait_until(lambda process=process: process.got.queue[-1].channel == "end")  # type: ignore[misc]
    got = [message.data for process in processes for message in process.got.queue]
    assert sorted(data for data in got if data) == [str(number) for number in range(10)]


def test_once_waits_for_a_broker_that_is_away(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has the message then."""
    monkeypatch.setattr(hooks, "PAUSE", 0.01)
    process = network.process().on_publish("jobs", once=True).begin()
    network.away = True
    assert not process.publish("jobs", "message")
    with pytest.raises(queue.Empty):
        process.got.get(timeout=0.05)
    network.away = False
    assert process.next().data == "message"


def test_once_needs_a_broker_that_can_tell(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Link, "uses_once", False)
    with pytest.raises(ConfigurationError, match=r"once=True\): the broker, Link, cannot tell"):
        network.process().on_publish("jobs", once=True)


def test_it_has_the_positions_of_the_channel() -> None:
    process = Process(SOCK_HISTORY={"jobs:*": (10, 60)}).on_publish("jobs:*")
    published = process.publish("jobs:1", "message")
    assert published.position is not None
    assert process.next().position == published.position


def test_one_that_fails_is_logged_and_called_again(
    process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    @process.sock.on_publish("jobs")
    def fail(message: Message) -> None:
        process.got.put(message)
        raise ValueError("on purpose")

    process.publish("jobs", "one")
    process.publish("jobs", "two")
    assert [process.next().data, process.next().data] == ["one", "two"]
    wait_until(lambda: len(caplog.records) == 2)
    assert caplog.records[0].levelno == logging.ERROR
    assert "fail failed for a message on 'jobs' (on_publish)" in caplog.records[0].getMessage()


def test_one_that_is_slow_keeps_nobody_waiting(process: Process) -> None:
    """Neither who publishes nor another function; and it gets what waits."""
    go_on = threading.Event()

    @process.sock.on_publish("jobs")
    def wait(message: Message) -> None:
        assert go_on.wait(PATIENCE)
        process.got.put(message)

    other = queue.Queue[Message]()
    process.sock.on_publish("jobs")(other.put)
    for number in range(3):
        process.publish("jobs", str(number))
    assert [other.get(timeout=PATIENCE).data for _ in range(3)] == ["0", "1", "2"]
    go_on.set()
    assert [process.next().data for _ in range(3)] == ["0", "1", "2"]


def test_past_the_limit_the_oldest_are_dropped(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "MANY_MESSAGES", 2)
    begun, go_on = threading.Event(), threading.Event()

    @process.sock.on_publish("jobs")
    def wait(message: Message) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        process.got.put(message)

    process.publish("jobs", "first")
    assert begun.wait(PATIENCE)
    for number in range(5):
        process.publish("jobs", str(number))
    go_on.set()
    got = [process.next() for _ in range(3)]
    assert [(message.data, message.after_gap) for message in got] == [
        ("first", False),
        ("3", True),
        ("4", False),
    ]


def test_its_thread_ends_and_another_follows(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "PATIENCE", 0.01)
    process.on_publish("jobs")
    for _ in range(2):
        process.publish("jobs", "message")
        process.next()
        wait_until(
            lambda: all(thread.name != hooks.NAME for thread in threading.enumerate()),
        )


def test_it_may_publish(process: Process) -> None:
    @process.sock.on_publish("jobs")
    def answer(message: Message) -> None:
        process.sock.publish("done", f"done {message.data!s}")

    process.on_publish("done")
    process.publish("jobs", "7")
    assert process.next().data == "done 7"


def test_its_channel_is_in_no_list(network: Network) -> None:
    process = network.process().on_publish("jobs:*").begin()
    assert process.app.extensions["flask_ws"].channels.list_all() == {}


def test_where_there_is_no_function_nothing_is_published_twice(network: Network) -> None:
    process, other = network.process(), network.process().on_publish("jobs").begin()
    process.publish("jobs", "by a process that does not know of it")
    other.publish("news", "on a channel that it is not for")
    other.publish("jobs", "message")
    assert other.next().data == "message"


@pytest.mark.parametrize(
    ("pattern", "error"), [(7, TypeError), ("", ValueError), ("ä" * 101, ValueError)]
)
def test_a_wrong_pattern_is_refused(process: Process, pattern: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        process.sock.on_publish(pattern)


def test_what_is_no_function_is_refused(process: Process) -> None:
    with pytest.raises(TypeError, match="on_publish"):
        process.sock.on_publish("jobs")("no function")  # type: ignore[type-var]
