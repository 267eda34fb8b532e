"""The cookbook: each of its apps does what its first line says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from examples.cookbook import (
    celery_progress,
    live_dashboard,
    login,
    notifications,
    private_messages,
    progress,
    rooms,
    streaming,
    upload,
)
from flask import Flask
from flask.testing import FlaskClient

from flask_ws.testing import HandshakeRefused, connect

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "examples/cookbook").glob("*.py"))
MODULES = [
    *(celery_progress, live_dashboard, login, notifications, private_messages),
    *(progress, rooms, streaming, upload),
]


def test_the_page_shows_every_recipe() -> None:
    page = (ROOT / "docs/cookbook.md").read_text()
    for recipe in RECIPES:
        assert page.count(f"```{{literalinclude}} ../examples/cookbook/{recipe.name}\n") == 1
    assert [Path(str(module.__file__)) for module in MODULES] == RECIPES


@pytest.mark.parametrize("app", [module.app for module in MODULES])
def test_each_serves_its_page(app: Flask) -> None:
    assert "new WebSocket(" in app.test_client().get("/").text


def test_a_room_hears_what_is_said_in_it_and_no_other() -> None:
    with (
        connect(rooms.app, "/rooms/tea") as ada,
        connect(rooms.app, "/rooms/tea") as grace,
        connect(rooms.app, "/rooms/lobby") as other,
    ):
        ada.send("Milk?")
        assert ada.receive() == grace.receive() == "Milk?"
        assert other.receive(timeout=0) is None


def log_in(**form: str) -> FlaskClient:
    client = login.app.test_client()
    client.post("/login", data=form)
    return client


@pytest.mark.parametrize("form", [{}, {"name": "ada"}, {"name": "eve", "password": "engine"}])
def test_who_is_not_logged_in_gets_401(form: dict[str, str]) -> None:
    with pytest.raises(HandshakeRefused, match="401"), connect(log_in(**form), "/private"):
        pass


def test_who_is_logged_in_is_connected() -> None:
    with connect(log_in(name="ada", password="engine"), "/private") as ws:
        assert ws.receive() == "Hello, ada!"
        ws.send("and goodbye")
        assert ws.receive() == "and goodbye"


def introduce(name: str) -> FlaskClient:
    client = private_messages.app.test_client()
    client.post("/login", data={"name": name})
    return client


def test_a_private_message_reaches_every_screen_of_two_people() -> None:
    ada, grace, charles = (introduce(name) for name in ("ada", "grace", "charles"))
    with (
        connect(ada, "/messages") as sender,
        connect(grace, "/messages") as desk,
        connect(grace, "/messages") as phone,
        connect(charles, "/messages") as other,
    ):
        sender.send_json({"to": "grace", "text": "Lunch?"})
        for screen in (sender, desk, phone):
            assert screen.receive_json() == {"from": "ada", "text": "Lunch?"}
        assert other.receive(timeout=0) is None
        sender.send("nonsense")
        assert list(sender) == []
        assert sender.close_code == 1008
    with pytest.raises(HandshakeRefused, match="401"), connect(private_messages.app, "/messages"):
        pass


def test_the_progress_of_a_job_is_shown_until_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    url = progress.app.test_client().post("/jobs").get_json()["url"]
    for _ in range(2):
        # The second time to a job that is done.
        with connect(progress.app, url) as ws:
            while ws.receive_json() != {"percent": 100}:
                pass
    with pytest.raises(HandshakeRefused, match="404"), connect(progress.app, "/jobs/none"):
        pass


@pytest.fixture
def _celery_leaves_logging_alone() -> Iterator[None]:
    """Celery's worker sets up the logging of its process, unless somebody else says to do so."""

    def set_up(**_: object) -> None:
        pass

    setup_logging.connect(set_up, weak=False)
    yield
    setup_logging.disconnect(set_up)


@pytest.mark.usefixtures("_celery_leaves_logging_alone")
def test_a_task_of_celery_publishes_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a worker of Celery's, on a thread of this process: nothing goes through Redis."""
    module = celery_progress
    monkeypatch.setattr(module, "STEPS", 4)
    monkeypatch.setitem(module.app.config, "SOCK_BROKER_URL", "memory://")
    module.celery.conf.update(broker_url="memory://", result_backend="cache+memory://")
    url = module.app.test_client().post("/tasks").get_json()["url"]
    with connect(module.app, url) as ws:
        assert ws.receive_json() == {"percent": 0}
        with start_worker(module.celery, pool="solo", perform_ping_check=False):
            assert [ws.receive_json()["percent"] for _ in range(4)] == [25, 50, 75, 100]
    with connect(module.app, url) as late:
        assert late.receive_json() == {"percent": 100}


def test_an_answer_is_streamed_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "generate", lambda question: iter(["You said ", question]))
    with connect(streaming.app, "/ask") as ws:
        ws.send("hello")
        assert ws.receive_json() == {"text": "You said "}
        assert ws.receive_json() == {"text": "hello"}
        assert ws.receive_json() == {"done": True}


def test_an_answer_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(streaming, "generate", lambda question: iter(lambda: "more ", None))
    with connect(streaming.app, "/ask") as ws:
        ws.send("endless")
        assert ws.receive_json() == {"text": "more "}
        ws.send("")
        while ws.receive_json() != {"done": True}:
            pass


def send_file(*pieces: Any) -> tuple[int | None, str | None]:
    with connect(upload.app, "/upload") as ws:
        ws.send("../notes.txt")
        for piece in pieces:
            ws.receive_json()
            ws.send(piece)
        for _ in ws:
            pass
        return ws.close_code, ws.close_reason


def test_a_file_is_uploaded_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a whole one is there in the end, under a name that leads nowhere else."""
    monkeypatch.setitem(upload.app.config, "UPLOAD_FOLDER", str(tmp_path))
    monkeypatch.setattr(upload, "LARGEST", 100)
    assert send_file(b"x" * 60, "text") == (1008, "A file comes in binary pieces.")
    assert send_file(b"x" * 60, b"x" * 60) == (1009, "A file may have 100 bytes.")
    assert list(tmp_path.iterdir()) == []
    assert send_file(b"one ", b"two", b"") == (1000, "Saved.")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_bytes() == b"one two"


def test_a_notification_reaches_one_user_or_all() -> None:
    ada, grace = (notifications.app.test_client() for _ in range(2))
    for client in (ada, grace):
        client.get("/")
    with connect(ada, "/notifications") as first, connect(grace, "/notifications") as second:
        assert ada.post("/orders").status_code == 204
        assert first.receive() == "Your order is on its way."
        with notifications.app.app_context():
            notifications.notify("Back at five.")
        assert first.receive() == second.receive() == "Back at five."
    with pytest.raises(HandshakeRefused, match="401"), connect(notifications.app, "/notifications"):
        pass


def test_a_dashboard_shows_the_totals_and_each_change() -> None:
    with connect(live_dashboard.app, "/live") as first:
        before = first.receive_json()
        live_dashboard.app.test_client().post("/orders", data={"amount": 5})
        after = first.receive_json()
        assert after == {"orders": before["orders"] + 1, "amount": before["amount"] + 5}
        with connect(live_dashboard.app, "/live") as second:
            assert second.receive_json() == after
