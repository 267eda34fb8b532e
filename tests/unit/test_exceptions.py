from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from wsproto.frame_protocol import CloseReason

from flask_ws import ConnectionClosed, FlaskWSError


def test_a_closed_connection_is_an_error_of_ours() -> None:
    assert issubclass(ConnectionClosed, FlaskWSError)


def test_a_closed_connection_tells_its_code_and_reason() -> None:
    error = ConnectionClosed(4000, "enough")

    assert (error.code, error.reason) == (4000, "enough")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionClosed(4000, "enough"), "4000 enough"),
        (ConnectionClosed(1006), "1006 lost without a close frame"),
        (ConnectionClosed(4001), "4001"),
    ],
)
def test_a_closed_connection_reads_as_code_and_reason(error: ConnectionClosed, text: str) -> None:
    """Or, without a reason, as what the code means."""
    assert str(error) == f"The WebSocket is closed: {text}"


def test_a_closed_connection_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(ConnectionClosed(4000, "enough")))

    assert (error.code, error.reason) == (4000, "enough")


# As in code for simple_websocket, whose reason is the code


@pytest.fixture
def closed() -> Any:
    return ConnectionClosed(1001, "bye")


def test_the_message_is_the_text(closed: Any) -> None:
    assert (closed.message, type(closed.message)) == ("bye", str)


def test_the_reason_equals_the_text_and_the_code(closed: Any) -> None:
    assert closed.reason == "bye"
    assert closed.reason == 1001
    assert closed.reason in (1000, CloseReason.GOING_AWAY)
    assert int(closed.reason) == 1001


def test_it_equals_nothing_else(closed: Any) -> None:
    assert closed.reason != "good-bye"
    assert closed.reason != 1000
    assert closed.reason not in (1000, None, b"bye")
    assert not closed.reason != "bye"  # noqa: SIM202


def test_it_is_a_text_like_any_other(closed: Any) -> None:
    assert f"{closed.reason}" == "bye"
    assert {closed.reason: 1}["bye"] == 1
    assert json.dumps(closed.reason) == '"bye"'


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_copy_has_both(closed: ConnectionClosed, again: Callable[[Any], Any]) -> None:
    reason = again(closed).reason
    assert reason == 1001
    assert reason == "bye"
    assert again(closed.reason) == 1001
