"""Rates: how they are written, and what a bucket admits."""

from __future__ import annotations

import pytest

from flask_ws.rate import Bucket, parse_rate


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("flask_ws.rate.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20/s", 20.0), ("120 / min", 2.0), ("0.5/second", 0.5), ("36/hour", 0.01)],
)
def test_a_rate_is_read(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "20", "20/", "/s", "-1/s", "0/s", "20/fortnight", "1/s2"])
def test_what_is_no_rate_is_not_read(text: str) -> None:
    assert parse_rate(text) is None


def test_a_bucket_holds_the_messages_of_a_second(now: list[float]) -> None:
    bucket = Bucket(2.0)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] += 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_bucket_holds_a_burst_and_no_more(now: list[float]) -> None:
    bucket = Bucket(2.0, 3)
    now[0] += 100.0
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_messages_in_advance_are_waited_for(now: list[float]) -> None:
    bucket = Bucket(2.0, 1)
    assert bucket.shortage() == 0.0
    for _ in range(2):
        bucket.take_anyway()
    assert bucket.shortage() == 1.0
    now[0] += 1.0
    assert bucket.shortage() == 0.0


def test_a_bucket_is_full_again_after_a_while(now: list[float]) -> None:
    bucket = Bucket(2.0)
    bucket.take()
    assert not bucket.is_full
    now[0] += 0.5
    assert bucket.is_full
