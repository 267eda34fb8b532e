from __future__ import annotations

import pickle

import pytest

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
