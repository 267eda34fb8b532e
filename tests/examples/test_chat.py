"""The chat: who hears what, and what is no message."""

from __future__ import annotations

from typing import Any

import pytest
from examples.chat.app import app

from flask_ws.testing import ClientWebSocket, HandshakeRefused, connect

V1 = "flask-ws.v1"


def enter(ws: ClientWebSocket, room: str = "tea", since: str | None = "all") -> ClientWebSocket:
    """Subscribe as the page does."""
    ws.send_json({"type": "subscribe", "id": 0, "channel": f"chat:{room}", "since": since})
    while since is None and ws.receive_json()["type"] != "subscribed":
        pass
    return ws


def join(ws: ClientWebSocket, info: Any, room: str = "tea") -> None:
    ws.send_json({"type": "join", "id": 9, "channel": f"chat:{room}", "info": info})


def say(ws: ClientWebSocket, data: Any, room: str = "tea") -> None:
    ws.send_json({"type": "publish", "id": 9, "channel": f"chat:{room}", "data": data})


def receive(ws: ClientWebSocket, channel: str) -> Any:
    """The data of the next message on a channel."""
    while True:
        message = ws.receive_json()
        if (message["type"], message.get("channel")) == ("message", channel):
            return message["data"]


def answer(ws: ClientWebSocket) -> Any:
    """The answer to what was said."""
    while (message := ws.receive_json()).get("id") != 9:
        pass
    return message


def test_a_room_hears_what_is_said_in_it_and_no_other() -> None:
    with (
        connect(app, "/chat/tea", subprotocols=V1) as ada,
        connect(app, "/chat/tea", subprotocols=V1) as grace,
        connect(app, "/chat/lobby", subprotocols=V1) as other,
    ):
        for ws in (ada, grace):
            enter(ws, since=None)
        enter(other, "lobby", since=None)
        say(ada, {"id": "1", "name": " Ada ", "text": " Milk? ", "more": "ignored"})
        said = receive(ada, "chat:tea")
        assert receive(grace, "chat:tea") == said
        assert said.pop("time")
        assert said == {"id": "1", "name": "Ada", "text": "Milk?"}
        say(other, {"id": "2", "name": "Charles", "text": "Anybody?"}, "lobby")
        assert receive(other, "chat:lobby")["text"] == "Anybody?"


def test_a_newcomer_is_shown_what_was_said_in_the_room() -> None:
    with connect(app, "/chat/python", subprotocols=V1) as ada:
        say(ada, {"id": "1", "name": "Ada", "text": "Snakes!"}, "python")
        assert answer(ada)["type"] == "published"
    with connect(app, "/chat/python", subprotocols=V1) as grace:
        assert receive(enter(grace, "python"), "chat:python")["text"] == "Snakes!"


def test_a_room_is_told_who_is_there() -> None:
    """Two pages of one person are there once, and others cannot come in as that person."""

    def receive_presence(ws: ClientWebSocket) -> Any:
        while (message := ws.receive_json())["type"] != "presence":
            pass
        return message

    with (
        connect(app, "/chat/tea?secret=a", subprotocols=V1) as ada,
        connect(app, "/chat/tea?secret=a", subprotocols=V1) as tab,
    ):
        join(ada, {"name": " Ada "})
        key = answer(ada)["key"]
        assert receive_presence(ada)["members"] == {key: [{"name": "Ada"}]}
        join(tab, {"name": "Ada"})
        assert answer(tab)["key"] == key
        with connect(app, f"/chat/tea?secret={key}", subprotocols=V1) as grace:
            join(grace, {"name": "Grace", "more": "ignored"})
            other = answer(grace)["key"]
            assert other != key
            told = receive_presence(ada)
            assert (told["key"], told["infos"]) == (other, [{"name": "Grace"}])
            assert receive_presence(grace)["members"].keys() == {key, other}


@pytest.mark.parametrize("info", [None, {}, {"name": " "}, {"name": 7}])
def test_who_is_there_has_a_name(info: Any) -> None:
    with connect(app, "/chat/tea", subprotocols=V1) as ws:
        join(ws, info)
        assert answer(ws)["reason"] == "Who is here has a name."
        join(ws, {"name": "Ada"}, "lobby")
        assert answer(ws)["code"] == "forbidden"


@pytest.mark.parametrize(
    "data",
    [
        "hello",
        [],
        {"id": "1", "name": "Ada"},
        {"id": "1", "name": "Ada", "text": " "},
        {"id": "1", "name": 1, "text": "a"},
        {"id": "", "name": "Ada", "text": "a"},
    ],
)
def test_what_is_no_message_is_refused(data: Any) -> None:
    with connect(app, "/chat/tea", subprotocols=V1) as ws:
        say(ws, data)
        assert answer(ws)["reason"] == "A message has an id, a name and a text."


@pytest.mark.parametrize("channel", ["chat:lobby", "people:tea"])
def test_a_person_publishes_in_their_room_only(channel: str) -> None:
    with connect(app, "/chat/tea", subprotocols=V1) as ws:
        data = {"id": "1", "name": "Ada", "text": "a"}
        ws.send_json({"type": "publish", "id": 9, "channel": channel, "data": data})
        assert answer(ws)["code"] == "forbidden"


def test_a_person_hears_their_room_only() -> None:
    with connect(app, "/chat/tea", subprotocols=V1) as ws:
        ws.send_json({"type": "subscribe", "id": 9, "channel": "chat:lobby"})
        assert answer(ws)["code"] == "forbidden"


def test_there_are_no_other_rooms() -> None:
    assert app.test_client().get("/cellar").status_code == 404
    with pytest.raises(HandshakeRefused) as caught, connect(app, "/chat/cellar", subprotocols=V1):
        pass
    assert caught.value.response.status_code == 404
