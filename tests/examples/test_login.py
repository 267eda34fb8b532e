"""The login: no connection without one, nor after its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from examples.login.app import app, notes
from flask.testing import FlaskClient

from flask_ws.testing import HandshakeRefused, connect


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    yield
    notes.clear()


def log_in(name: str, password: str) -> FlaskClient:
    client = app.test_client()
    client.post("/login", data={"name": name, "password": password})
    return client


@pytest.mark.parametrize(
    "client",
    [app.test_client(), log_in("ada", "compiler"), log_in("charles", "engine")],
    ids=["nobody", "wrong password", "wrong name"],
)
def test_who_is_not_logged_in_gets_401(client: FlaskClient) -> None:
    with pytest.raises(HandshakeRefused) as caught, connect(client, "/note"):
        pass
    assert caught.value.response.status_code == 401


def test_a_note_follows_its_owner_and_nobody_else() -> None:
    ada, grace = log_in("ada", "engine"), log_in("grace", "compiler")
    with connect(ada, "/note") as desk, connect(grace, "/note") as other:
        with connect(ada, "/note") as phone:
            assert desk.receive_json() == phone.receive_json() == {"name": "ada", "note": ""}
            assert other.receive_json() == {"name": "grace", "note": ""}
            desk.send("cards")
            assert phone.receive_json() == {"name": "ada", "note": "cards"}
        with connect(ada, "/note") as later:
            assert later.receive_json() == {"name": "ada", "note": "cards"}
        assert desk.receive(timeout=0) is None
        assert other.receive(timeout=0) is None


def test_a_logout_closes_every_screen() -> None:
    client, other = log_in("ada", "engine"), log_in("ada", "engine")
    with connect(client, "/note") as desk, connect(other, "/note") as phone:
        for screen in (desk, phone):
            screen.receive_json()
        assert client.post("/logout").status_code == 302
        for screen in (desk, phone):
            assert list(screen) == []
            assert screen.close_code == 4001
            assert screen.close_reason == "You have logged out on another screen."
    for each in (client, other):
        with pytest.raises(HandshakeRefused), connect(each, "/note"):
            pass
