"""Which channels have subscribers: each process that listens is asked."""

from __future__ import annotations

import pytest
from tests.support.brokers import OpenProcess
from tests.support.postgresql import PostgresServer

from flask_ws import BrokerError
from flask_ws_postgresql import survey

# They share a server.
pytestmark = pytest.mark.xdist_group("test_broker_postgresql")


def test_all_channels_are_told_however_many(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """In as many notifications as it takes, whoever asks."""
    names = [f"many:{number}:{'x' * 200}" for number in range(100)]
    one = open_process(server.url, *names, "few")
    other = open_process(server.url, names[0], "few")
    expected = dict.fromkeys(names, 1) | {names[0]: 2}
    for process in (one, other, open_process(server.url)):
        assert process.broker.channels("many:") == expected
    other.broker.unsubscribe("few")
    assert one.broker.channels("f") == {"few": 1}


def test_one_that_ends_meanwhile_is_not_counted(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    one, other = open_process(server.url, "ended"), open_process(server.url, "ended")
    assert one.broker.channels("ended") == {"ended": 2}
    other.broker.close()
    assert one.broker.channels("ended") == {"ended": 1}


def test_that_one_does_not_answer_is_said(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """What the others have told is not passed off as all."""
    broker = open_process(server.make_url(query="&answer_timeout=0.5"), "silent").broker
    with server.client() as client:
        client.execute(f"SELECT pg_advisory_lock_shared({survey.LOCK})")
        with pytest.raises(BrokerError, match="1 of 2 processes"):
            broker.channels("")
    assert broker.channels("silent") == {"silent": 1}


@pytest.mark.parametrize(
    "question",
    [b"", b"nonsense", b"flask_ws_'; DROP TABLE users; -- 61", b"flask_ws_" + b"0" * 32 + b" 6"],
)
def test_what_is_no_question_has_no_answer(question: bytes) -> None:
    """Anybody who uses the database can ask."""
    assert survey.answer(question, ["a"]) is None


def test_nothing_of_a_question_is_left(server: PostgresServer, open_process: OpenProcess) -> None:
    """The connection that listened for answers is not used again."""
    broker = open_process(server.url, "left").broker
    broker.channels("")
    assert not broker._pool._idle  # type: ignore[attr-defined]
