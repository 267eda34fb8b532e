"""Many channels on one connection: what clients may ask for, and what they are told.

By views with plain methods and with async ones.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from flask import Flask, abort, g, request

from flask_ws import (
    AsyncChannelView,
    AsyncWebSocket,
    ChannelView,
    ConfigurationError,
    Sock,
    WebSocket,
)
from flask_ws.channels.channels import Channels
from flask_ws.channels.results import NOT_TAKEN
from flask_ws.live.wire import is_json
from flask_ws.testing import HandshakeRefused, connect

from .conftest import V1, Client, OfKind, Open, make_async


@pytest.fixture
def app() -> Flask:
    app = Flask("live")
    app.config["SOCK_HISTORY"] = {"chat:*": (3, 300)}
    app.config["SOCK_MAX_SUBSCRIPTIONS"] = 4
    return app


@pytest.fixture
def sock(app: Flask, of_kind: OfKind) -> Sock:
    sock = Sock(app)
    sock.identify(lambda: request.args.get("user"))

    class Live(ChannelView):
        def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
            if channel == "members":
                abort(403, "Members only.")
            return channel != "secret" and request.path == "/live"

        def may_publish(self, ws: WebSocket, channel: str, data: Any) -> Any:
            if channel == "members":
                abort(403, "Members only.")
            if channel == "secret":
                return False
            return {"by": request.path, "text": data["text"]} if "text" in str(data) else True

    sock.route("/live")(of_kind(Live))
    return sock


def ask_only(app: Flask, path: str, kind: str) -> None:
    """Ask for something that ends the connection."""
    with connect(app, path, subprotocols=V1) as ws:
        Client(ws).send(kind, data=1)
        assert list(ws) == []
        assert ws.close_code == 1011


def publish(sock: Sock, data: Any, channel: str = "chat:1") -> str:
    position = sock.publish_json(channel, data).position
    assert position is not None
    return position


def messages(client: Client) -> Iterator[Any]:
    """The data of messages until the client is subscribed, and gaps."""
    while (found := client.receive())["type"] != "subscribed":
        yield "gap" if found["type"] == "gap" else found["data"]


# Messages


def test_a_message_comes_with_its_channel_and_position(open_: Open, sock: Sock) -> None:
    client = open_()
    answer = client.ask("subscribe")
    assert answer.pop("position")
    assert answer == {"type": "subscribed", "channel": "chat:1", "recovered": True}
    position = publish(sock, {"text": "</hi> \u2713"})
    assert client.receive() == {
        "type": "message",
        "channel": "chat:1",
        "position": position,
        "data": {"text": "</hi> \u2713"},
    }


@pytest.mark.parametrize("channel", ["chat:1", "plain", 'a "quoted" \u2713 one'])
@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        # Text is text, also if it looks like a number.
        ("12", "data", "12"),
        ('{"a": 1}', "data", '{"a": 1}'),
        ("\u2713", "data", "\u2713"),
        (b"\x00\xff", "base64", "AP8="),
    ],
)
def test_publish_sends_text_and_bytes_as_they_are(
    open_: Open, sock: Sock, channel: str, data: str | bytes, key: str, expected: str
) -> None:
    client = open_()
    client.ask("subscribe", channel)
    sock.publish(channel, data)
    found = client.receive()
    assert (found["channel"], found[key]) == (channel, expected)


@pytest.mark.parametrize("data", [12, None, "NaN", ["Infinity", {"a": None}]])
def test_publish_json_sends_values(open_: Open, sock: Sock, data: Any) -> None:
    client = open_()
    client.ask("subscribe", "plain")
    sock.publish_json("plain", data)
    assert client.receive() == {
        "type": "message",
        "channel": "plain",
        "position": None,
        "data": data,
    }


def test_a_coroutine_publishes_values_too(open_: Open, sock: Sock) -> None:
    client = open_()
    client.ask("subscribe", "plain")
    asyncio.run(sock.apublish_json("plain", [1]))
    assert client.receive()["data"] == [1]
    asyncio.run(sock.apublish("plain", "[1]"))
    assert client.receive()["data"] == "[1]"


def test_what_is_not_json_for_browsers_comes_as_text(open_: Open, sock: Sock) -> None:
    client = open_()
    client.ask("subscribe", "plain")
    sock.publish_json("plain", [float("nan")])
    assert client.receive()["data"] == "[NaN]"


def test_the_json_around_a_message_is_made_once(
    open_: Open, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_ws.live import wire

    checked: list[str] = []
    clients = [open_() for _ in range(5)]
    for client in clients:
        client.ask("subscribe")

    def is_json(text: str) -> bool:
        checked.append(text)
        return True

    monkeypatch.setattr(wire, "is_json", is_json)
    publish(sock, "once")
    assert [client.receive()["data"] for client in clients] == ["once"] * 5
    assert checked == ['"once"']


def test_subscribers_of_other_views_get_the_bare_message(
    open_: Open, app: Flask, sock: Sock
) -> None:
    """In the same order, whoever subscribed first."""

    @sock.route("/plain")
    def plain(ws: WebSocket) -> None:
        ws.subscribe("chat:1")
        ws.receive()

    client = open_()
    client.ask("subscribe")
    with connect(app, "/plain") as ws:
        for number in range(3):
            publish(sock, number)
        assert [ws.receive_json() for _ in range(3)] == [0, 1, 2]
    assert [client.receive()["data"] for _ in range(3)] == [0, 1, 2]


# Messages to a user


def test_a_message_to_the_user_comes_without_a_channel(open_: Open, sock: Sock) -> None:
    """To all of hers, in their order, as it is published; to nobody else."""
    clients, other, nobody = [open_("ada"), open_("ada")], open_("grace"), open_()
    assert sock.send_json_to("ada", {"unread": [1]})
    sock.send_to("ada", '{"text": 1}')
    sock.send_to("ada", b"\x00\xff")
    sock.send_json_to("ada", float("nan"))
    for client in clients:
        assert [client.receive() for _ in range(4)] == [
            {"type": "direct", "data": {"unread": [1]}},
            {"type": "direct", "data": '{"text": 1}'},
            {"type": "direct", "base64": "AP8="},
            {"type": "direct", "data": "NaN"},
        ]
    for client in (other, nobody):
        assert client.ask("ping") == {"type": "pong"}


def test_a_user_has_bare_messages_elsewhere(open_: Open, app: Flask, sock: Sock) -> None:
    sock.route("/plain")(lambda ws: ws.send(ws.receive()))
    client = open_("ada")
    with connect(app, "/plain?user=ada") as ws:
        sock.send_json_to("ada", [1])
        assert ws.receive_json() == [1]
    assert client.receive() == {"type": "direct", "data": [1]}


# Resuming


def test_what_was_missed_comes_before_what_comes_then(open_: Open, sock: Sock) -> None:
    position = publish(sock, 0)
    publish(sock, 1)
    last = publish(sock, 2)
    client = open_()
    client.send("subscribe", since=position)
    assert [client.receive()["data"] for _ in range(2)] == [1, 2]
    answer = client.receive()
    assert (answer["type"], answer["position"], answer["recovered"]) == ("subscribed", last, True)
    publish(sock, 3)
    assert client.receive()["data"] == 3


def test_all_that_is_kept_can_be_had(open_: Open, sock: Sock) -> None:
    for number in range(5):
        publish(sock, number)
    client = open_()
    client.send("subscribe", since="all")
    assert list(messages(client)) == [2, 3, 4]


@pytest.mark.parametrize("since", ["", "no position", "another-3", "\ud800-1"])
def test_a_gap_is_told_before_what_is_left(open_: Open, sock: Sock, since: str) -> None:
    publish(sock, 0)
    client = open_()
    client.send("subscribe", since=since)
    assert list(messages(client)) == ["gap", 0]


def test_on_a_channel_without_history_it_is_a_gap_to_come_back(open_: Open) -> None:
    client = open_()
    client.send("subscribe", "plain", since="")
    assert client.receive() == {"type": "gap", "channel": "plain"}
    assert client.receive()["recovered"] is False


def test_a_position_of_an_empty_channel_can_be_resumed(open_: Open, sock: Sock) -> None:
    position = open_().ask("subscribe")["position"]
    publish(sock, "first")
    client = open_()
    client.send("subscribe", since=position)
    assert list(messages(client)) == ["first"]


def test_after_unsubscribing_nothing_comes(open_: Open, sock: Sock) -> None:
    client = open_()
    client.ask("subscribe")
    for _ in range(2):
        assert client.ask("unsubscribe") == {"type": "unsubscribed", "channel": "chat:1"}
    publish(sock, 1)
    assert client.ask("ping") == {"type": "pong"}
    assert client.ask("subscribe")["type"] == "subscribed"


def test_a_view_can_render_the_position(open_: Open, sock: Sock) -> None:
    """Of a channel with history, also of an empty one."""
    assert sock.position("plain") is None
    position = sock.position("chat:1")
    publish(sock, "first")
    client = open_()
    client.send("subscribe", since=position)
    assert list(messages(client)) == ["first"]


# Publishing


def test_a_client_publishes_for_all_itself_too(open_: Open) -> None:
    client, other = open_(), open_()
    for each in (client, other):
        each.ask("subscribe")
    number = client.send("publish", data=[1, None])
    found = client.receive()
    assert other.receive() == found
    assert found["data"] == [1, None]
    answer = client.receive()
    assert answer == {
        "type": "published",
        "id": number,
        "channel": "chat:1",
        "position": found["position"],
    }


def test_the_view_may_change_what_is_published(open_: Open) -> None:
    client = open_()
    client.ask("subscribe", "plain")
    client.send("publish", "plain", data={"text": "hi", "by": "somebody else"})
    assert client.receive()["data"] == {"by": "/live", "text": "hi"}
    assert client.receive()["type"] == "published"


def test_who_publishes_need_not_be_subscribed(open_: Open) -> None:
    assert open_().ask("publish", "plain", data=None)["position"] is None


def test_a_broker_that_is_away_is_said(open_: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channels, "publish", lambda *_, **__: NOT_TAKEN)
    answer = open_().ask("publish", data=1)
    assert (answer["type"], answer["code"]) == ("refused", "away")


# Refusals


@pytest.mark.parametrize("kind", ["subscribe", "publish"])
@pytest.mark.parametrize(
    ("channel", "code", "reason"),
    [
        ("secret", "forbidden", ""),
        ("members", "forbidden", "Members only."),
        ("", "channel", ""),
        ("x" * 256, "channel", ""),
        ("\u2713" * 86, "channel", ""),
        ("a\ud800", "channel", ""),
    ],
)
def test_what_is_refused_is_answered_and_the_connection_goes_on(
    open_: Open, kind: str, channel: str, code: str, reason: str
) -> None:
    client = open_()
    answer = client.ask(kind, channel, data=1)
    assert (answer["type"], answer["code"]) == ("refused", code)
    assert answer["reason"].startswith(reason)
    assert client.ask("subscribe")["type"] == "subscribed"


def test_one_subscription_too_many_is_refused(open_: Open) -> None:
    """The others stay, and another can take a place that is free again."""
    client = open_()
    answers = [client.ask("subscribe", str(number)) for number in range(5)]
    assert [answer.get("code") for answer in answers] == [None] * 4 + ["limit"]
    client.ask("unsubscribe", "0")
    assert client.ask("subscribe", "5")["type"] == "subscribed"


def test_a_second_subscription_to_a_channel_is_refused(open_: Open) -> None:
    client = open_()
    client.ask("subscribe")
    assert client.ask("subscribe", since="all")["code"] == "subscribed"


def test_a_type_of_a_later_version_is_refused(open_: Open) -> None:
    assert open_().ask("later")["code"] == "unsupported"


@pytest.mark.parametrize("data", ["1e999", "[-1e999]"])
def test_numbers_that_json_has_not_are_not_published(open_: Open, data: str) -> None:
    client = open_()
    client.ws.send(f'{{"type":"publish","id":1,"channel":"plain","data":{data}}}')
    assert client.receive()["code"] == "data"


def test_what_is_nested_too_deeply_to_be_written_is_not_published(
    open_: Open, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be read, which takes less of the stack."""
    # Flask before 2.2 has no provider.
    provider: Any = getattr(app, "json", flask.json)
    write: Callable[..., str] = provider.dumps

    def dumps(data: Any, **options: Any) -> str:
        if data == [[]]:
            raise RecursionError
        return write(data, **options)

    monkeypatch.setattr(provider, "dumps", dumps)
    client = open_()
    assert client.ask("publish", "plain", data=[[]])["code"] == "data"
    assert client.ask("ping") == {"type": "pong"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"NaN"', True),
        ('["\\"NaN", {"-Infinity\\\\": "NaN"}]', True),
        ('{"NaN": NaN}', False),
        ('["", -Infinity]', False),
        pytest.param("[" * 100_000 + '"NaN"' + "]" * 100_000, True, id="deep"),
    ],
)
def test_what_is_json_for_browsers_does_not_depend_on_the_stack(text: str, expected: bool) -> None:
    assert is_json(text) is expected


def test_nothing_is_allowed_by_default(
    app: Flask, of_kind: OfKind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_ws.views.advice._told", set())
    sock = Sock(app)
    sock.route("/closed")(of_kind(type("Closed", (ChannelView,), {})))
    with connect(app, "/closed", subprotocols=V1) as ws:
        client = Client(ws)
        assert client.ask("subscribe")["code"] == "forbidden"
        assert client.ask("publish", data=1)["code"] == "forbidden"
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "Closed does not define may_subscribe()",
        "Closed does not define may_publish()",
    ]


# What is no request


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{}", "a message is text"),
        ("hello", "a message is JSON"),
        ('{"type": "ping", "id": NaN}', "a message is JSON"),
        ("[" * 100_000, "a message is JSON"),
        ("[]", "a message is an object"),
        ('{"id": 1}', "type is text"),
        ('{"type": "ping"}', "id is a whole number from 0 to 2**53 - 1"),
        ('{"type": "ping", "id": true}', "id is a whole number from 0 to 2**53 - 1"),
        ('{"type": "ping", "id": 1.0}', "id is a whole number from 0 to 2**53 - 1"),
        ('{"type": "ping", "id": -1}', "id is a whole number from 0 to 2**53 - 1"),
        ('{"type": "ping", "id": 9007199254740992}', "id is a whole number from 0 to 2**53 - 1"),
        ('{"type": "subscribe", "id": 1}', "channel is missing"),
        ('{"type": "subscribe", "id": 1, "channel": 7}', "channel is text"),
        ('{"type": "subscribe", "id": 1, "channel": "a", "since": 7}', "since is text"),
        ('{"type": "publish", "id": 1, "channel": "a"}', "data is missing"),
    ],
)
def test_what_is_no_request_ends_the_connection(
    open_: Open, caplog: pytest.LogCaptureFixture, message: str | bytes, reason: str
) -> None:
    """With 4400, after which clients do not come back, and one line in the log."""
    client = open_()
    client.ws.send(message)
    assert list(client.ws) == []
    assert (client.ws.close_code, client.ws.close_reason) == (4400, f"{V1}: {reason}")
    (line,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert line.getMessage().endswith(reason)


@pytest.mark.parametrize("offered", [(), ("other",)])
def test_a_client_without_the_subprotocol_gets_400(app: Flask, sock: Sock, offered: Any) -> None:
    with (
        pytest.raises(HandshakeRefused, match=r"400 BAD REQUEST: .*flask-ws\.v1"),
        connect(app, "/live", subprotocols=offered),
    ):
        pass


def test_another_site_is_refused(app: Flask, sock: Sock) -> None:
    headers = {"Origin": "https://evil.example"}
    with (
        pytest.raises(HandshakeRefused, match="403"),
        connect(app, "/live", subprotocols=V1, headers=headers),
    ):
        pass


def test_the_subprotocol_is_chosen_beside_others(app: Flask, sock: Sock) -> None:
    with connect(app, "/live", subprotocols=["other", V1]) as ws:
        assert ws.subprotocol == V1


def test_the_rate_of_the_route_holds(app: Flask, sock: Sock, of_kind: OfKind) -> None:
    class Limited(ChannelView):
        pass

    sock.route("/limited", rate=1, rate_burst=2, rate_action="close")(of_kind(Limited))
    with connect(app, "/limited", subprotocols=V1) as ws:
        client = Client(ws)
        for _ in range(3):
            client.send("ping")
        assert len(list(ws)) == 2
        assert ws.close_code == 1008


# What the app's author does


def test_each_request_has_the_context_of_a_method(app: Flask, sock: Sock, of_kind: OfKind) -> None:
    seen: list[object] = []

    class View(ChannelView):
        def on_open(self, ws: WebSocket, name: str) -> None:
            self.name = name

        def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
            seen.append((self.name, request.args["a"], getattr(g, "left", None)))
            g.left = True
            return True

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            seen.append(code)

    sock.route("/context/<name>")(of_kind(View))
    with connect(app, "/context/tea?a=1", subprotocols=V1) as ws:
        for channel in "ab":
            Client(ws).ask("subscribe", channel)
    assert seen == [("tea", "1", None)] * 2 + [1000]


@pytest.mark.parametrize("result", ["yes", 1, ("Forbidden", 403)])
def test_what_merely_counts_as_true_allows_nothing(
    app: Flask, sock: Sock, of_kind: OfKind, result: Any
) -> None:
    class View(ChannelView):
        def may_subscribe(self, ws: WebSocket, channel: str) -> Any:
            return result

    sock.route("/wrong")(of_kind(View))
    with pytest.raises(TypeError, match="must return True or False"):
        ask_only(app, "/wrong", "subscribe")


@pytest.mark.parametrize("name", ["may_subscribe", "may_publish", "on_open"])
def test_one_async_method_makes_a_view_async(app: Flask, name: str) -> None:
    """Whichever it is; the others may be plain."""

    async def allow(*_: object) -> bool:
        await asyncio.sleep(0)
        return True

    names = "may_subscribe", "may_publish", "on_open"
    methods: dict[str, Any] = {each: lambda *_: True for each in names[:2]}
    view = type("View", (ChannelView,), {**methods, name: allow})
    Sock(app).route("/mixed")(view)
    with connect(app, "/mixed", subprotocols=V1) as ws:
        assert Client(ws).ask("subscribe")["type"] == "subscribed"
        assert Client(ws).ask("publish", "other", data=1)["type"] == "published"


def test_a_method_that_waits_holds_up_its_own_connection_only(app: Flask) -> None:
    """Which gets its answers in the order of its requests."""
    goes_on: list[asyncio.Event] = []

    class View(AsyncChannelView):
        async def may_subscribe(self, ws: AsyncWebSocket, channel: str) -> bool:
            if channel == "slow":
                goes_on.append(asyncio.Event())
                await goes_on[0].wait()
            elif channel == "last":
                goes_on[0].set()
            return True

    Sock(app).route("/slow")(View)
    with (
        connect(app, "/slow", subprotocols=V1) as ws,
        connect(app, "/slow", subprotocols=V1) as other,
    ):
        client = Client(ws)
        numbers = [client.send("subscribe", "slow"), client.send("ping")]
        while not goes_on:
            assert Client(other).ask("ping")["type"] == "pong"
        assert Client(other).ask("subscribe", "last")["type"] == "subscribed"
        assert [client.receive()["id"] for _ in numbers] == numbers


def test_an_async_view_waits_for_the_broker_beside_its_loop(
    open_: Open, of_kind: OfKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is one; what is asked for is done as elsewhere."""
    threads: set[str] = set()

    def note(name: str) -> Any:
        method = getattr(Channels, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            threads.add(threading.current_thread().name.rpartition("_")[0])
            return method(*args, **kwargs)

        return call

    for name in ("subscribe", "unsubscribe", "publish"):
        monkeypatch.setattr(Channels, name, note(name))
    monkeypatch.setattr(Channels, "is_local", False)
    client = open_("ada")
    client.send("subscribe")
    client.send("publish", data=1)
    client.send("unsubscribe")
    found = [client.receive()["type"] for _ in range(4)]
    assert sorted(found) == ["message", "published", "subscribed", "unsubscribed"]
    assert ("flask_ws.Broker" in threads) is (of_kind is make_async)


def test_a_plain_method_that_returns_a_coroutine_allows_nothing(app: Flask) -> None:
    async def allow() -> bool:
        return True

    class Hidden(ChannelView):
        def may_subscribe(self, ws: WebSocket, channel: str, data: object = None) -> Any:
            return allow()

        may_publish = may_subscribe

    Sock(app).route("/hidden")(Hidden)
    for kind in ("subscribe", "publish"):
        with pytest.raises(TypeError, match="nobody awaits"):
            ask_only(app, "/hidden", kind)


@pytest.mark.parametrize("view", [ChannelView, AsyncChannelView])
def test_a_method_without_the_arguments_is_refused_when_declared(app: Flask, view: type) -> None:
    wrong = type("View", (view,), {"may_publish": lambda self, ws, channel: True})
    with pytest.raises(TypeError, match=r"def may_publish\(self, ws, channel, data\)"):
        Sock(app).route("/wrong")(wrong)


def test_a_channel_view_has_its_own_subprotocol(sock: Sock) -> None:
    with pytest.raises(ConfigurationError, match=r"speaks flask-ws\.v1"):
        sock.route("/other", subprotocols=["other"])(type("View", (ChannelView,), {}))
