from __future__ import annotations

import threading

import pytest
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE

from flask_ws.once import NotYetError, Once


def test_what_is_being_opened_is_waited_for() -> None:
    begun, may_end = threading.Event(), threading.Event()
    made: list[object] = []

    def make() -> object:
        begun.set()
        assert may_end.wait(PATIENCE)
        made.append(object())
        return made[-1]

    once = Once(make)
    asking = [in_thread(once.get) for _ in range(5)]
    assert begun.wait(PATIENCE)
    may_end.set()
    assert {each.result(PATIENCE) for each in asking} == {*made}
    assert len(made) == 1


def test_whoever_opens_it_does_not_wait_for_itself() -> None:
    """As a log handler would that publishes."""

    def make() -> str:
        with pytest.raises(NotYetError):
            once.get()
        return "made"

    once = Once(make)
    assert in_thread(once.get).result(PATIENCE) == "made"


def test_after_a_failure_it_is_tried_again() -> None:
    outcomes = [ValueError("once"), None]

    def make() -> str:
        if error := outcomes.pop(0):
            raise error
        return "made"

    once = Once(make)
    with pytest.raises(ValueError, match="once"):
        once.get()
    assert once.made is None
    assert once.get() == "made"
