"""The stream: an answer is written once, and read by whoever knows its page, from the beginning."""

from __future__ import annotations

import threading

import pytest
from examples.stream import app as module
from examples.stream.app import app, generate

from flask_ws.testing import ClientWebSocket, connect


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)


def read(ws: ClientWebSocket, channel: str) -> str:
    """The whole answer, as the page shows it."""
    ws.send_json({"type": "subscribe", "id": 1, "channel": channel, "since": "all"})
    text = ""
    while True:
        message = ws.receive_json()
        if message["type"] == "message":
            if "done" in message["data"]:
                return text
            text += message["data"]["text"]


def test_an_answer_can_be_read_twice() -> None:
    """By pages that open while it is written, or later: each has all of it."""
    response = app.test_client().post("/", data={"question": "Why?"})
    name = response.location.rpartition("/")[2]
    for _ in range(2):
        with connect(app, "/live", subprotocols="flask-ws.v1") as ws:
            assert read(ws, f"answer:{name}") == "".join(generate("Why?"))


def test_a_question_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    places = threading.BoundedSemaphore(1)
    places.acquire()
    monkeypatch.setattr(module, "places", places)
    assert app.test_client().post("/", data={"question": "Why?"}).status_code == 503


def test_no_question_gets_no_answer() -> None:
    assert app.test_client().post("/", data={"question": " "}).location == "/"


@pytest.mark.parametrize("request_", ["subscribe", "publish"])
def test_pages_read_answers_and_do_no_more(request_: str) -> None:
    channel = "answer:x" if request_ == "publish" else "other"
    with connect(app, "/live", subprotocols="flask-ws.v1") as ws:
        ws.send_json({"type": request_, "id": 1, "channel": channel, "data": 1})
        assert ws.receive_json()["code"] == "forbidden"
