"""The chat: who hears what, and what is no message."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from examples.chat.app import ROOMS, app, store

from flask_ws.testing import ClientWebSocket, HandshakeRefused, connect


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert not any(store.count(room) for room in ROOMS)
    for said in store.history.values():
        said.clear()


def receive(ws: ClientWebSocket, key: str) -> Any:
    """The next thing of this kind."""
    while key not in (message := ws.receive_json()):
        pass
    return message[key]


def test_a_room_hears_what_is_said_in_it_and_no_other() -> None:
    with (
        connect(app, "/chat/tea") as ada,
        connect(app, "/chat/tea") as grace,
        connect(app, "/chat/lobby") as other,
    ):
        ada.send_json({"name": "Ada", "text": "Milk?"})
        assert receive(ada, "text") == receive(grace, "text") == "Milk?"
        other.send_json({"name": "Charles", "text": "Anybody?"})
        assert receive(other, "text") == "Anybody?"


def test_a_newcomer_is_shown_what_was_said_in_the_room() -> None:
    with connect(app, "/chat/tea") as ada:
        ada.send_json({"name": " Ada ", "text": " Milk? "})
        receive(ada, "text")
    with connect(app, "/chat/tea") as grace, connect(app, "/chat/lobby") as other:
        (said,) = receive(grace, "history")
        assert (said["name"], said["text"]) == ("Ada", "Milk?")
        assert receive(other, "history") == []


def test_a_room_is_told_how_many_are_there() -> None:
    with connect(app, "/chat/tea") as ada:
        assert receive(ada, "people") == 1
        with connect(app, "/chat/tea"):
            assert receive(ada, "people") == 2
        assert receive(ada, "people") == 1


@pytest.mark.parametrize(
    "message",
    ["hello", "[]", '{"name": "Ada"}', '{"name": "Ada", "text": " "}', '{"name": 1, "text": "a"}'],
)
def test_what_is_no_message_is_answered_with_1008(message: str) -> None:
    with connect(app, "/chat/tea") as ws:
        ws.send(message)
        assert not any('"text"' in str(other) for other in ws)
        assert (ws.close_code, ws.close_reason) == (1008, "A message has a name and a text.")


def test_there_are_no_other_rooms() -> None:
    assert app.test_client().get("/cellar").status_code == 404
    with pytest.raises(HandshakeRefused) as caught, connect(app, "/chat/cellar"):
        pass
    assert caught.value.response.status_code == 404
