"""Whereabouts: the line that code stands on, elsewhere."""

from __future__ import annotations

import re
import threading

import pytest
from tests.support.waiting import PATIENCE

from flask_ws.whereabouts import Whereabouts


def test_a_thread_stands_on_a_line_of_the_app_not_of_libraries() -> None:
    begun, goes_on, found = threading.Event(), threading.Event(), []

    def wait_there() -> None:
        found.append(Whereabouts())
        begun.set()
        goes_on.wait(PATIENCE)

    thread = threading.Thread(target=wait_there)
    thread.start()
    assert begun.wait(PATIENCE)
    try:
        assert re.fullmatch(r".*test_whereabouts\.py:\d+ in wait_there", str(found[0]))
    finally:
        goes_on.set()
        thread.join()


def test_a_greenlet_that_waits_stands_on_a_line() -> None:
    greenlet = pytest.importorskip("greenlet")
    found = []

    def wait_there() -> None:
        found.append(Whereabouts())
        greenlet.getcurrent().parent.switch()

    waiting = greenlet.greenlet(wait_there)
    waiting.switch()
    assert str(found[0]).endswith(" in wait_there")
    waiting.switch()


def test_a_thread_that_has_ended_stands_nowhere() -> None:
    found: list[Whereabouts] = []
    thread = threading.Thread(target=lambda: found.append(Whereabouts()))
    thread.start()
    thread.join()
    assert str(found[0]) == "an unknown line"
