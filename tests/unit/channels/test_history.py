"""Channels that remember: what was missed, and then what comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, request
from tests.support.histories import run_machine
from tests.support.memory import MemoryServer
from tests.support.raw import Peer

from flask_ws import (
    ConfigurationError,
    Position,
    Retention,
    Sock,
    Subscription,
    WebSocket,
    WebSocketView,
)
from flask_ws.budget import budget
from flask_ws.plugin.memory import MemoryBroker

GAP = "(gap)"

Open = Callable[..., Peer]


@pytest.fixture
def app() -> Flask:
    app = Flask("history")
    app.config["SOCK_HISTORY"] = {"short": (2, 300), "chat:*": (100, 300), "*": (5, 300)}
    return app


@pytest.fixture
def sock(app: Flask) -> Sock:
    return Sock(app)


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


pytestmark = pytest.mark.usefixtures("context")

subscriptions: list[Subscription] = []


@pytest.fixture(params=["handler", "view"])
def open_(
    request: pytest.FixtureRequest, server: MemoryServer, app: Flask, sock: Sock
) -> Callable[..., Peer]:
    """Open a WebSocket that is subscribed, with what the query says."""
    subscriptions.clear()

    def subscribe(ws: WebSocket, channel: str) -> None:
        subscriptions.append(ws.subscribe(channel, since=since(), gap=GAP))
        ws.send("ready")

    if request.param == "handler":

        @sock.route("/<channel>")
        def handler(ws: WebSocket, channel: str) -> None:
            subscribe(ws, channel)
            for message in ws:
                ws.send(message)

    else:

        @sock.route("/<channel>")
        class View(WebSocketView):
            def on_open(self, ws: WebSocket, channel: str) -> None:
                subscribe(ws, channel)

            def on_message(self, ws: WebSocket, message: str | bytes) -> None:
                ws.send(message)

    return lambda target: server.connect(app, target)


def since() -> str | None:
    return request.args.get("since")


def read(peer: Peer) -> list[Any]:
    """What a peer gets before it is told that it is subscribed."""
    messages = []
    while (message := peer.read()) != "ready":
        messages.append(message)
    return messages


# What is missed is sent


def test_what_was_missed_is_sent_first(sock: Sock, open_: Open) -> None:
    position = sock.publish("chat:1", "known").position
    for data in ("one", b"two"):
        sock.publish("chat:1", data)
    peer = open_(f"/chat:1?since={position}")
    assert read(peer) == ["one", b"two"]
    sock.publish("chat:1", "three")
    assert peer.read() == "three"


def test_all_that_is_kept_can_be_had(sock: Sock, open_: Open) -> None:
    for number in range(7):
        sock.publish("news", str(number))
    peer = open_("/news?since=all")
    assert read(peer) == ["2", "3", "4", "5", "6"]
    assert subscriptions[0].recovered


def test_without_since_nothing_is_sent(sock: Sock, open_: Open) -> None:
    sock.publish("news", "before")
    assert read(open_("/news")) == []
    assert subscriptions[0].recovered


def test_the_position_of_a_subscription_is_that_of_the_last_message(
    sock: Sock, open_: Open
) -> None:
    position = sock.publish("news", "last").position
    open_("/news").read()
    assert subscriptions[0].position == position


def test_a_channel_without_messages_has_a_position_to_come_back_to(sock: Sock, open_: Open) -> None:
    read(open_("/news"))
    sock.publish("news", "first")
    assert read(open_(f"/news?since={subscriptions[0].position}")) == ["first"]
    assert subscriptions[1].recovered


def test_who_has_missed_nothing_gets_nothing(sock: Sock, open_: Open) -> None:
    position = sock.publish("news", "known").position
    assert read(open_(f"/news?since={position}")) == []
    assert subscriptions[0].recovered


# Gaps


def test_where_messages_are_gone_there_is_a_gap(sock: Sock, open_: Open) -> None:
    """It is told before those that are left."""
    position = sock.publish("short", "known").position
    for number in range(3):
        sock.publish("short", str(number))
    assert read(open_(f"/short?since={position}")) == [GAP, "1", "2"]
    assert subscriptions[0].gap


@pytest.mark.parametrize(
    "position", ["another-1", "nonsense", "", "-", "x-99999999999999999999", "x-²", "all-"]
)
def test_a_position_of_nowhere_is_a_gap(sock: Sock, open_: Open, position: str) -> None:
    sock.publish("news", "kept")
    assert read(open_(f"/news?since={position}")) == [GAP, "kept"]
    assert subscriptions[0].gap


@pytest.mark.parametrize("text", ["\ud800-1", "a\0b-1", "-1", "a-", "a-\u0663", "a-1e5", "a--"])
def test_what_no_broker_could_be_asked_for_is_no_position(text: str) -> None:
    assert Position.parse(text) is None


def test_a_position_in_the_future_is_a_gap(sock: Sock, open_: Open) -> None:
    published = sock.publish("news", "kept").position
    assert published is not None
    position = Position.parse(published)
    assert position is not None
    peer = open_(f"/news?since={Position(position.epoch, 1000)}")
    assert read(peer) == [GAP]
    sock.publish("news", "next")
    assert peer.read() == "next"


def test_a_channel_that_keeps_nothing_has_a_gap(app: Flask, sock: Sock, open_: Open) -> None:
    app.config["SOCK_HISTORY"] = {}
    assert sock.publish("news", "lost").position is None
    assert read(open_("/news?since=all")) == [GAP]
    assert (subscriptions[0].position, subscriptions[0].gap) == (None, True)


def test_since_that_is_no_text_is_refused(app: Flask, sock: Sock, server: MemoryServer) -> None:
    errors: list[Exception] = []

    @sock.route("/wrong")
    def wrong(ws: WebSocket) -> None:
        try:
            ws.subscribe("news", since=7)  # type: ignore[arg-type]
        except TypeError as error:
            errors.append(error)

    server.connect(app, "/wrong").answer_close()
    assert "int" in str(errors[0])


# What publishing returns


def test_a_publication_has_a_position(sock: Sock) -> None:
    one, two = sock.publish("news", "one"), sock.publish_json("news", 2)
    assert one
    assert two
    assert one.position != two.position
    assert one == one
    assert one != two
    assert str(one.position) in repr(one)


# Settings


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("chat:*", "dictionary"),
        ({"": (1, 1)}, "empty"),
        ({"x" * 256: (1, 1)}, "255"),
        ({7: (1, 1)}, "int"),
        ({"a": 5}, "(100, 300)"),
        ({"a": (0, 300)}, "(100, 300)"),
        ({"a": (True, 300)}, "(100, 300)"),
        ({"a": (1.5, 300)}, "(100, 300)"),
        ({"a": (1, 0)}, "(100, 300)"),
        ({"a": (1, float("inf"))}, "(100, 300)"),
        ({"a": (1, 2, 3)}, "(100, 300)"),
    ],
)
def test_a_wrong_setting_is_told_at_the_start(setting: object, told: str) -> None:
    app = Flask("wrong")
    app.config["SOCK_HISTORY"] = setting
    with pytest.raises(ConfigurationError, match="SOCK_HISTORY") as info:
        Sock(app)
    assert told in str(info.value)


def test_a_name_goes_before_patterns_and_the_first_of_them_counts(sock: Sock, open_: Open) -> None:
    for number in range(7):
        sock.publish("short", str(number))
        sock.publish("chat:7", str(number))
    assert read(open_("/short?since=all")) == ["5", "6"]
    assert len(read(open_("/chat:7?since=all"))) == 7


# Memory


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("flask_ws.plugin.memory.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def broker() -> Iterator[MemoryBroker]:
    broker = MemoryBroker()
    broker.start(lambda channel, payload, position=None: None)
    yield broker
    broker.close()


def test_what_is_too_old_is_freed_though_nothing_is_published_there(
    broker: MemoryBroker, clock: list[float]
) -> None:
    before = budget.total
    broker.publish_kept("old", bytes(100_000), Retention(10, 60))
    assert budget.total >= before + 100_000
    clock[0] += 61
    broker.publish_kept("another", b"", Retention(10, 600))
    assert budget.total < before + 10_000


def test_the_oldest_go_where_all_together_take_too_much(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "limit", budget.total + 400_000)
    try:
        positions = [
            broker.publish_kept(f"channel {number}", bytes(10_000), Retention(10, 60))
            for number in range(20)
        ]
        nowhere = Position("", 0)
        kept = [
            len(broker.read_history(f"channel {number}", Retention(10, 60), nowhere).messages)
            for number in range(20)
        ]
    finally:
        monkeypatch.undo()
    assert 5 <= sum(kept) <= 10
    assert kept == sorted(kept)
    # Their positions are still known.
    assert broker.read_history("channel 0", Retention(10, 60)).position == positions[0]


def test_a_channel_of_long_ago_is_forgotten(broker: MemoryBroker, clock: list[float]) -> None:
    """Its next position is one of another history, and so a gap."""
    position = broker.publish_kept("old", b"", Retention(10, 60))
    clock[0] += 100_000
    assert broker.read_history("old", Retention(10, 60)).position.epoch == position.epoch
    broker.read_history("another", Retention(10, 60))
    clock[0] += 100_000
    broker.read_history("another", Retention(10, 60))
    assert broker.read_history("old", Retention(10, 60)).position.epoch != position.epoch


@pytest.mark.parametrize("seed", range(10))
def test_no_hole_nothing_twice_or_a_gap_in_memory(seed: int) -> None:
    """The machine on paper, whose messages this process keeps."""
    broker = MemoryBroker()
    broker.start(lambda channel, payload, position=None: None)
    run_machine(seed, broker, broker._logs.clear)
    broker.close()


def test_a_broker_that_is_thrown_away_is_not_counted_any_more() -> None:
    before = budget.total
    broker = MemoryBroker()
    broker.start(lambda channel, payload, position=None: None)
    broker.publish_kept("a", bytes(100_000), Retention(10, 60))
    del broker
    assert budget.total < before + 10_000


def test_where_nothing_is_kept_nothing_is_looked_up(app: Flask) -> None:
    """No pattern, no cost."""
    app.config["SOCK_HISTORY"] = {}
    sock = Sock(app)
    with app.app_context():
        sock.publish("news", "a")
        opened = app.extensions["flask_ws"].channels._opening.made
    assert opened.find_retention is None
