"""What a subscriber gets that reads too slowly."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer, tcp_pair
from tests.support.raw import Peer
from tests.support.server import wait_until
from tests.support.waiting import PATIENCE

from flask_ws import AsyncWebSocket, Sock, Subscription, WebSocket, WebSocketView
from flask_ws.channels import groups

GAP = "(gap)"
#: More than the system takes for a peer that does not read.
MANY = 300
LARGE = "x" * 50_000
#: Room for the gap, for whatever else is sent, and for some of these.
OUTBOX = 1_000_000

Open = Callable[..., Peer]
Publish = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


@pytest.fixture(params=["handler", "view", "async", "many"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "many":
        # As for many subscribers: a thread of its own sends what is queued.
        monkeypatch.setattr(groups, "FEW", 0)
        return "handler"
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def subscriptions() -> list[Subscription]:
    return []


@pytest.fixture
def loops() -> list[asyncio.AbstractEventLoop]:
    """The loop on which the subscriber is, where it is on one."""
    return []


@pytest.fixture
def open_(
    server: MemoryServer,
    app: Flask,
    sock: Sock,
    place: str,
    subscriptions: list[Subscription],
    loops: list[asyncio.AbstractEventLoop],
) -> Open:
    """Open a WebSocket with a subscription of one kind, and one that is as usual."""

    def open_(overflow: Any, **kwargs: Any) -> Peer:
        options: dict[str, Any] = {"max_outbox": OUTBOX, "compression": False, "close_timeout": 1}

        if place == "handler":

            @sock.route("/", **options)
            def handler(ws: WebSocket) -> None:
                ws.subscribe("other")
                subscriptions.append(ws.subscribe("news", overflow=overflow, **kwargs))
                ws.send("ready")
                for message in ws:
                    ws.send(message)

        elif place == "view":

            @sock.route("/", **options)
            class View(WebSocketView):
                def on_open(self, ws: WebSocket) -> None:
                    ws.subscribe("other")
                    subscriptions.append(ws.subscribe("news", overflow=overflow, **kwargs))
                    ws.send("ready")

        else:

            @sock.route("/", **options)
            async def coroutine(ws: AsyncWebSocket) -> None:
                loops.append(asyncio.get_running_loop())
                await ws.subscribe("other")
                subscriptions.append(await ws.subscribe("news", overflow=overflow, **kwargs))
                await ws.send("ready")
                async for message in ws:
                    await ws.send(message)

        peer = server.connect(app, pair=tcp_pair(), detachable=place != "handler")
        if "since" not in kwargs:
            assert peer.read() == "ready"
        return peer

    return open_


@pytest.fixture
def publish(sock: Sock, loops: list[asyncio.AbstractEventLoop]) -> Publish:
    """Publish much more than anybody takes who does not read."""

    def publish() -> list[str]:
        messages = [f"{number} {LARGE}" for number in range(MANY)]
        for message in messages:
            sock.publish("news", message)
        for loop in loops:
            # Whoever reads before the loop has sent them is not slow.
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(PATIENCE)
        return messages

    return publish


def read_until(peer: Peer, last: str) -> list[str]:
    read: list[str] = []
    while not read or read[-1] != last:
        read.append(str(peer.read()))
    return read


def test_of_what_is_not_sent_only_the_newest_is(
    sock: Sock, open_: Open, subscriptions: list[Subscription], publish: Publish
) -> None:
    peer = open_("latest")
    messages = publish()
    # One is being sent, and one waits.
    assert sum(route.outbox for route in sock.stats().routes.values()) < 3 * len(LARGE)
    found = [messages.index(message) for message in read_until(peer, messages[-1])]
    assert found == sorted(set(found))
    assert subscriptions[0].dropped == MANY - len(found) > 0


def test_what_finds_too_much_waiting_is_not_sent(
    sock: Sock, open_: Open, subscriptions: list[Subscription], publish: Publish
) -> None:
    peer = open_("drop")
    messages = publish()
    sock.publish("other", "end")
    found = [messages.index(message) for message in read_until(peer, "end")[:-1]]
    assert found == sorted(set(found))
    assert subscriptions[0].dropped == MANY - len(found) > 0


@pytest.mark.parametrize("overflow", ["latest", "drop"])
def test_what_else_the_connection_sends_is_not_concerned(
    sock: Sock, open_: Open, overflow: str, publish: Publish
) -> None:
    """All of it arrives, in order, as long as it fits into the outbox itself."""
    peer = open_(overflow)
    publish()
    others = [f"{number} {'o' * 10_000}" for number in range(OUTBOX * 2 // 3 // 10_000)]
    for message in others:
        sock.publish("other", message)
    publish()
    sock.publish("other", "end")
    read = read_until(peer, "end")
    assert [message for message in read if message in others] == others


@pytest.mark.parametrize("overflow", ["latest", "drop"])
def test_one_who_reads_gets_everything_that_follows(
    sock: Sock, open_: Open, overflow: str, publish: Publish
) -> None:
    """Slowness is forgotten with what waited."""
    peer = open_(overflow)
    publish()
    sock.publish("other", "end")
    read = read_until(peer, "end")
    if overflow == "latest" and not read[-2].startswith(f"{MANY - 1} "):
        peer.read()
    for number in range(20):
        sock.publish("news", f"again {number}")
        assert peer.read() == f"again {number}"


def test_a_gap_is_told_before_what_follows_it(sock: Sock, open_: Open, publish: Publish) -> None:
    peer = open_("drop", gap=GAP)
    messages = publish()
    sock.publish("other", "end")
    read = read_until(peer, "end")[:-1]
    messages.append("last")
    sock.publish("news", "last")
    read += read_until(peer, "last")
    expected = 0
    for before, message in itertools.pairwise(["", *read]):
        if message != GAP:
            assert (before == GAP) == (messages.index(message) != expected)
            expected = messages.index(message) + 1
    assert GAP in read


@pytest.mark.parametrize("overflow", ["latest", "drop"])
def test_a_history_that_does_not_fit_closes_nothing(
    app: Flask,
    sock: Sock,
    open_: Open,
    overflow: str,
    subscriptions: list[Subscription],
    publish: Publish,
) -> None:
    app.config["SOCK_HISTORY"] = {"news": (MANY, 60)}
    messages = publish()
    peer = open_(overflow, since="all")
    # All of it was offered before anything is read.
    wait_until(lambda: bool(subscriptions))
    found = [messages.index(message) for message in read_until(peer, "ready")[:-1]]
    assert found == sorted(set(found))
    assert len(found) < MANY


def test_what_is_dropped_is_logged_once(
    sock: Sock, open_: Open, caplog: pytest.LogCaptureFixture, publish: Publish
) -> None:
    peer = open_("drop")
    publish()
    sock.publish("other", "end")
    read_until(peer, "end")
    (record,) = [record for record in caplog.records if "reads too slowly" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("messages on 'news' are dropped (overflow)")


@pytest.mark.parametrize("overflow", ["latest", "drop"])
def test_what_is_not_sent_is_counted(
    app: Flask,
    sock: Sock,
    open_: Open,
    overflow: str,
    subscriptions: list[Subscription],
    publish: Publish,
) -> None:
    """Also when the connection has gone."""
    peer = open_(overflow)
    publish()
    sock.publish("other", "end")
    read_until(peer, "end")
    dropped = subscriptions[0].dropped
    stats = sock.stats()
    assert 0 < stats.dropped == dropped
    assert stats.deliveries == MANY + 1 - dropped
    peer.sock.close()
    wait_until(lambda: sock.stats().subscribers == 0)
    assert sock.stats().dropped == dropped


def test_anything_else_is_refused(sock: Sock, server: MemoryServer, app: Flask) -> None:
    refused: list[ValueError] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        for overflow in ("wait", "", None, ["drop"]):
            try:
                ws.subscribe("news", overflow=overflow)  # type: ignore[arg-type]
            except ValueError as error:
                refused.append(error)

    server.connect(app).read_close()
    assert [str(error) for error in refused] == [
        'overflow is "close", "latest" or "drop", not ' + text
        for text in ("'wait'.", "''.", "None.", "['drop'].")
    ]
    assert sock.subscribers("news") == 0
