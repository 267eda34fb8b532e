"""Who is there: what clients may join, and what they are told of each other.

By views with plain methods and with async ones.
"""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, abort, request

from flask_ws import ChannelView, Sock, WebSocket
from flask_ws.testing import connect

from .conftest import V1, Client, OfKind, Open


@pytest.fixture
def app() -> Flask:
    app = Flask("presence")
    app.config.from_mapping(
        SOCK_PRESENCE_GRACE=0,
        SOCK_PRESENCE_MAX_JOINS=2,
        SOCK_PRESENCE_MAX_INFO=50,
        SOCK_MAX_SUBSCRIPTIONS=3,
    )
    return app


@pytest.fixture
def sock(app: Flask, of_kind: OfKind) -> Sock:
    sock = Sock(app)
    sock.identify(lambda: request.args.get("user"))

    class Live(ChannelView):
        def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
            return True

        def may_join(self, ws: WebSocket, channel: str, info: Any) -> Any:
            if channel == "members":
                abort(403, "Members only.")
            answers = {"secret": False, "bare": True, "own": {"path": request.path}}
            return answers.get(channel, {"name": info})

    sock.route("/live")(of_kind(Live))
    return sock


def join(client: Client, channel: str = "chat:1", info: Any = None) -> tuple[str, Any]:
    """Join, and return the key, and who is there."""
    answer = client.ask("join", channel, info=info)
    assert (answer["type"], answer["channel"]) == ("joined", channel)
    state = client.receive()
    assert (state["type"], state["event"], state["channel"]) == ("presence", "state", channel)
    return answer["key"], state["members"]


def leave(client: Client, channel: str = "chat:1") -> None:
    """Leave; what comes before the answer may be one's own leave."""
    number = client.send("leave", channel)
    while (told := client.receive())["type"] == "presence":
        pass
    assert told == {"type": "left", "id": number, "channel": channel}


def change(client: Client) -> tuple[Any, ...]:
    """Return what a client is told next of who is there."""
    told = client.receive()
    assert told["type"] == "presence"
    return told["event"], told["key"], told.get("infos")


def test_members_are_told_of_each_other(open_: Open, sock: Sock) -> None:
    """Who is there first, and then what changes."""
    ada, grace = open_("ada"), open_("grace")
    assert join(ada, info=1) == ("ada", {"ada": [{"name": 1}]})
    assert join(grace, info=2) == ("grace", {"ada": [{"name": 1}], "grace": [{"name": 2}]})
    assert sock.presence("chat:1") == {"ada": [{"name": 1}], "grace": [{"name": 2}]}
    assert change(ada) == ("join", "grace", [{"name": 2}])
    leave(grace)
    assert change(ada) == ("leave", "grace", None)


def test_the_end_of_a_connection_is_a_leave(open_: Open) -> None:
    ada, grace = open_("ada"), open_("grace")
    join(ada), join(grace)
    assert change(ada)[:2] == ("join", "grace")
    grace.ws.close()
    assert change(ada)[:2] == ("leave", "grace")


def test_who_comes_back_soon_has_not_left(app: Flask, open_: Open) -> None:
    app.config["SOCK_PRESENCE_GRACE"] = 600
    ada, grace = open_("ada"), open_("grace")
    join(ada), join(grace)
    assert change(ada)[:2] == ("join", "grace")
    grace.ws.close()
    assert join(open_("grace"))[1].keys() == {"ada", "grace"}
    assert ada.ask("ping") == {"type": "pong"}


def test_two_tabs_of_a_user_are_one(open_: Open, sock: Sock) -> None:
    ada, tab, other = open_("ada"), open_("grace"), open_("grace")
    for client in (ada, tab, other):
        join(client)
    assert change(ada)[:2] == ("join", "grace")
    leave(tab)
    assert ada.ask("ping") == {"type": "pong"}
    assert sock.presence("chat:1").keys() == {"ada", "grace"}


def test_who_has_no_identity_is_a_connection(open_: Open) -> None:
    keys = {join(client)[0] for client in (open_(), open_())}
    assert len(keys) == 2


@pytest.mark.parametrize(("channel", "told"), [("bare", {}), ("own", {"path": "/live"})])
def test_others_are_told_what_the_view_says(open_: Open, channel: str, told: Any) -> None:
    """And what the client says, only if the view wants it."""
    assert join(open_("ada"), channel, "mine") == ("ada", {"ada": [told]})


def test_to_join_again_changes_the_info(open_: Open) -> None:
    """And nobody is told once more who is there."""
    ada, grace = open_("ada"), open_("grace")
    join(ada), join(grace)
    change(ada)
    ada.send("join", info="new")
    told = change(grace)
    assert told == ("change", "ada", [{"name": "new"}])
    # The answer, and what all are told, in either order.
    assert {ada.receive()["type"] for _ in range(2)} == {"joined", "presence"}
    assert ada.ask("ping") == {"type": "pong"}


def test_after_leaving_nothing_comes(open_: Open) -> None:
    """And it is the same where one has not joined."""
    ada = open_("ada")
    join(ada)
    for _ in range(2):
        leave(ada)
    join(open_("grace"))
    assert ada.ask("ping") == {"type": "pong"}
    assert join(ada)[1].keys() == {"ada", "grace"}


@pytest.mark.parametrize(
    ("channel", "info", "code", "reason"),
    [
        ("secret", None, "forbidden", "The channel may not be joined."),
        ("members", None, "forbidden", "Members only."),
        ("", None, "channel", "A channel's name"),
        ("chat:1", "x" * 50, "data", "The info is too long, or no JSON."),
    ],
)
def test_what_is_refused_is_answered_and_the_connection_goes_on(
    open_: Open, sock: Sock, channel: str, info: Any, code: str, reason: str
) -> None:
    client = open_("ada")
    answer = client.ask("join", channel, info=info)
    assert (answer["type"], answer["code"]) == ("refused", code)
    assert answer["reason"].startswith(reason)
    if channel:
        assert sock.presence(channel) == {}
    assert client.ask("ping") == {"type": "pong"}


def test_numbers_that_json_has_not_are_refused(open_: Open) -> None:
    client = open_("ada")
    client.ws.send('{"type":"join","id":1,"channel":"chat:1","info":1e999}')
    assert client.receive()["code"] == "data"


def test_one_join_too_many_is_refused(open_: Open) -> None:
    """The others stay, and another can take a place that is free again."""
    client = open_("ada")
    join(client, "a"), join(client, "b")
    assert client.ask("join", "c")["code"] == "limit"
    assert client.ask("join", "b")["type"] == "joined"
    leave(client, "a")
    join(client, "c")


def test_joins_and_subscriptions_are_limited_together(open_: Open) -> None:
    client = open_("ada")
    client.ask("subscribe", "a"), client.ask("subscribe", "b")
    join(client, "a")
    assert client.ask("join", "b")["code"] == "limit"


def test_nobody_may_join_by_default(
    app: Flask, of_kind: OfKind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_ws.views.advice._told", set())
    Sock(app).route("/closed")(of_kind(type("Closed", (ChannelView,), {})))
    with connect(app, "/closed", subprotocols=V1) as ws:
        assert Client(ws).ask("join")["code"] == "forbidden"
    (record,) = caplog.records
    assert record.getMessage().startswith("Closed does not define may_join(), so every client")


def test_a_view_may_show_who_is_there_to_who_has_not_joined(app: Flask, open_: Open) -> None:
    class Watched(ChannelView):
        def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
            ws.subscribe_presence(channel)
            return True

    Sock(app).route("/watched")(Watched)
    join(open_("ada"))
    with connect(app, "/watched", subprotocols=V1) as ws:
        Client(ws).send("subscribe")
        assert ws.receive_json()["members"].keys() == {"ada"}
        assert ws.receive_json()["type"] == "subscribed"
