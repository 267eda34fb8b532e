"""What has come for connections of messages."""

from __future__ import annotations

from flask_ws.loop.arrivals import Arrivals


def make() -> Arrivals:
    arrivals = Arrivals()
    for number in (-1, -2, -3):
        arrivals.register(number)
    # What came before is told at once.
    assert arrivals.wait(0) == [-1, -2, -3]
    return arrivals


def test_all_that_has_come_is_reported_at_once() -> None:
    arrivals = make()
    for number in (-2, -1, -2, -1):
        arrivals.tell(number)
    assert arrivals.wait(1) == [-2, -1]
    assert arrivals.wait(0) == []


def test_what_comes_after_the_report_is_reported_again() -> None:
    arrivals = make()
    arrivals.tell(-1)
    arrivals.wait(0)
    arrivals.tell(-1)
    assert arrivals.wait(0) == [-1]


def test_what_another_thread_serves_is_reported_when_it_has_done() -> None:
    arrivals = make()
    arrivals.tell(-1)
    arrivals.mask(-1)
    arrivals.tell(-2)
    assert arrivals.wait(0) == [-2]
    arrivals.unmask(-1)
    assert arrivals.wait(0) == [-1]


def test_what_has_ended_is_not_reported() -> None:
    arrivals = make()
    arrivals.tell(-1)
    arrivals.unregister(-1)
    assert arrivals.wait(0) == []
    arrivals.tell(-1)
    assert arrivals.wait(0) == []
