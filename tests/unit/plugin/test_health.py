from __future__ import annotations

import time

import pytest

from flask_ws import BrokerError, BrokerHealth
from flask_ws.testing.suite.process import wait_until


def test_the_pauses_grow_to_a_limit_and_differ() -> None:
    assert 0.05 <= BrokerHealth.backoff(1) <= 0.1
    assert (
        BrokerHealth.longest_delay / 2 <= BrokerHealth.backoff(1000) <= BrokerHealth.longest_delay
    )
    assert len({BrokerHealth.backoff(5) for _ in range(10)}) > 1


class Notes:
    """A BrokerHealth, and what it has told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.health = BrokerHealth(
            "Redis at h:1", self.told.append, lambda: self.told.append("back")
        )


def test_while_it_is_gone_one_tries_and_the_others_are_sent_away() -> None:
    health = Notes().health
    health.fail(OSError("gone"), health.check())
    wait_until(lambda: _may_be_tried(health), what="the next attempt")
    with pytest.raises(BrokerError, match="h:1"):
        health.check()


def _may_be_tried(health: BrokerHealth) -> bool:
    try:
        return health.check().is_trial
    except BrokerError:
        return False


def test_those_under_way_when_it_goes_count_as_one_attempt() -> None:
    health = Notes().health
    for attempt in [health.check() for _ in range(100)]:
        health.fail(OSError("gone"), attempt)
    assert health._retry_at - time.monotonic() < 0.1


def test_it_is_back_when_the_listener_is() -> None:
    notes = Notes()
    notes.health.lose(OSError("lost"))
    notes.health.succeed()
    assert notes.told == ["Redis at h:1: lost"]
    notes.health.succeed(listener=True)
    assert notes.told == ["Redis at h:1: lost", "back"]


def test_a_listener_that_has_not_noticed_is_asked_before_it_is_back() -> None:
    notes = Notes()
    notes.health.on_doubt = lambda: notes.told.append("asked")
    notes.health.fail(OSError("gone"), notes.health.check())
    notes.health.succeed()
    assert notes.told == ["asked", "Redis at h:1: gone"]
    notes.health.succeed(listener=True)
    assert notes.told[2:] == ["back"]


def test_a_failure_that_comes_late_is_no_news() -> None:
    notes = Notes()
    first, late = notes.health.check(), notes.health.check()
    notes.health.fail(OSError("gone"), first)
    notes.health.succeed()
    notes.health.fail(OSError("late"), late)
    assert notes.told == ["Redis at h:1: gone", "back"]


def test_without_a_listener_it_is_back_when_something_is_published() -> None:
    notes = Notes()
    notes.health.fail(OSError("gone"), notes.health.check())
    notes.health.succeed()
    notes.health.check()
    assert notes.told == ["Redis at h:1: gone", "back"]
