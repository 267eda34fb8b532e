"""The thread of a hub, in which alone its greenlets can be used."""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any

import pytest

from flask_ws import Concurrency

TIMEOUT = 5.0


@pytest.fixture(params=["eventlet", "gevent"])
def greenlets(request: pytest.FixtureRequest) -> Concurrency:
    module: Any = importlib.import_module(f"flask_ws_{request.param}.greenlets")
    greenlets: Concurrency = module.greenlets
    return greenlets


def test_another_threads_function_is_called_in_this_one(greenlets: Concurrency) -> None:
    """In a greenlet, where it may wait; and in the order in which they came."""
    home = greenlets.home()
    assert home is not None
    assert home is greenlets.home()
    assert home.is_here()
    found: list[object] = []
    done = greenlets.event()

    def note(number: int) -> None:
        greenlets.pause()
        found.append((number, home.is_here()))
        if number == 4:
            done.set()

    def elsewhere() -> None:
        found.append(home.is_here())
        for number in range(5):
            home.run(functools.partial(note, number))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(TIMEOUT)
    assert found == [False]
    assert done.wait(TIMEOUT)
    assert found[1:] == [(number, True) for number in range(5)]


def test_each_thread_has_a_hub_of_its_own(greenlets: Concurrency) -> None:
    homes: list[object] = []
    thread = threading.Thread(target=lambda: homes.append(greenlets.home()))
    thread.start()
    thread.join(TIMEOUT)
    assert homes[0] is not greenlets.home()
