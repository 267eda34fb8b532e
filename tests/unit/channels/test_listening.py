"""Programs that listen to a channel."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from flask import Flask
from tests.support.memory import in_thread, is_waiting
from tests.support.waiting import PATIENCE

from flask_ws import Message, Sock
from flask_ws.channels import listening as listening_module


@pytest.fixture
def app() -> Flask:
    app = Flask("listening")
    app.config["SOCK_HISTORY"] = {"kept": (3, 300)}
    return app


@pytest.fixture
def sock(app: Flask) -> Iterator[Sock]:
    sock = Sock(app)
    with app.app_context():
        yield sock


@pytest.mark.parametrize("data", ["text", b"\0binary", ""])
def test_messages_come_as_they_were_published(sock: Sock, data: str | bytes) -> None:
    with sock.listen("news") as messages:
        sock.publish("news", data)
        assert next(messages) == Message(data, None, after_gap=False, channel="news")


def test_they_have_the_positions_that_publishing_returned(sock: Sock) -> None:
    with sock.listen("kept") as messages:
        positions = [sock.publish("kept", str(number)).position for number in range(3)]
        assert [next(messages).position for _ in range(3)] == positions


def test_a_program_comes_back_to_where_it_was(sock: Sock) -> None:
    with sock.listen("kept") as messages:
        sock.publish("kept", "first")
        position = next(messages).position
    sock.publish("kept", "second")
    with sock.listen("kept", since=position) as messages:
        assert messages.recovered
        assert next(messages).data == "second"


def test_the_first_message_after_a_gap_says_so(sock: Sock) -> None:
    with sock.listen("kept") as messages:
        position = messages.position
    for number in range(5):
        sock.publish("kept", str(number))
    with sock.listen("kept", since=position) as messages:
        assert not messages.recovered
        found = [next(messages)[::2] for _ in range(3)]
        assert found == [("2", True), ("3", False), ("4", False)]


def test_past_the_limit_the_oldest_are_dropped(sock: Sock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "MANY_MESSAGES", 2)
    with sock.listen("news") as messages:
        for number in range(4):
            sock.publish("news", str(number))
        assert [next(messages)[::2] for _ in range(2)] == [("2", True), ("3", False)]


def test_past_the_limit_of_bytes_too(sock: Sock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "MANY_BYTES", 10)
    with sock.listen("news") as messages:
        for number in range(4):
            sock.publish("news", str(number) * 5)
        assert [next(messages)[::2] for _ in range(2)] == [("22222", True), ("33333", False)]
        for number in range(3):
            sock.publish("news", str(number) * 20)
        assert next(messages)[::2] == ("2" * 20, True)
        sock.publish("news", "1"), sock.publish("news", "2")
        assert [next(messages)[::2] for _ in range(2)] == [("1", False), ("2", False)]


def test_receive_waits_for_as_long_as_it_is_told(sock: Sock) -> None:
    with sock.listen("news") as messages:
        assert messages.receive(timeout=0.01) is None
        waiting = in_thread(messages.receive, timeout=PATIENCE)
        sock.publish("news", "now")
        found = waiting.result(PATIENCE)
        assert found is not None
        assert found.data == "now"


@pytest.mark.parametrize("timeout", [math.inf, 1e30])
def test_receive_may_wait_longer_than_any_lock(sock: Sock, timeout: float) -> None:
    with sock.listen("news") as messages:
        waiting = in_thread(messages.receive, timeout=timeout)
        sock.publish("news", "now")
        found = waiting.result(PATIENCE)
        assert found is not None


def test_closing_ends_the_iteration_of_another_thread(sock: Sock) -> None:
    messages = sock.listen("news")
    ending = in_thread(lambda: list(messages))
    assert is_waiting(ending)
    messages.close()
    assert ending.result(PATIENCE) == []
    sock.publish("news", "to nobody")
    assert messages.receive(timeout=0) is None


def test_a_listener_is_not_counted_as_a_connection(sock: Sock) -> None:
    with sock.listen("news"):
        assert sock.subscribers("news") == 0


def test_nothing_is_left_of_one_that_is_closed(app: Flask, sock: Sock) -> None:
    with sock.listen("news"):
        pass
    assert app.extensions["flask_ws"].channels.subscriptions.get("news") is None


def test_many_listeners_all_get_it(sock: Sock) -> None:
    """More than are sent it at once."""
    listeners = [sock.listen("kept") for _ in range(20)]
    position = sock.publish("kept", "hello").position
    assert [next(messages) for messages in listeners] == [
        Message("hello", position, False, "kept")
    ] * 20
    for messages in listeners:
        messages.close()
