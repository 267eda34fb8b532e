from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.waiting import PATIENCE

from flask_ws.channels import spreader as spreader_module
from flask_ws.channels.spreader import MANY_BYTES, MANY_MESSAGES, Round, Spreader
from flask_ws.concurrency import Concurrency, threads


class Outbox:
    """As much of a connection as the spreader needs."""

    label = "outbox"

    def __init__(self) -> None:
        self.flushed: list[threading.Thread] = []
        self.event = threading.Event()
        self.sender = self

    def flush(self) -> bool:
        self.flushed.append(threading.current_thread())
        self.event.set()
        return True


def make_round(*connections: Any) -> Round:
    return Round(list(connections))


class Threads(Concurrency):
    """Threads that start when the test says so; or not at all."""

    def __init__(self) -> None:
        self.spawned: list[Callable[[], object]] = []
        self.exhausted = False

    def spawn(self, target: Callable[[], object], name: str) -> None:
        if self.exhausted:
            raise RuntimeError("can't start new thread")
        self.spawned.append(target)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends soon."""
    monkeypatch.setattr(spreader_module, "PATIENCE", 0.01)


def test_a_round_is_made_on_another_thread() -> None:
    outbox = Outbox()
    Spreader(threads).add(make_round(outbox), 10)
    assert outbox.event.wait(PATIENCE)
    assert outbox.flushed[0].name == "flask_ws.Spreader"


@pytest.mark.usefixtures("soon")
def test_what_waits_for_the_same_round_goes_with_it() -> None:
    concurrency, outbox = Threads(), Outbox()
    spreader, round_ = Spreader(concurrency), make_round(outbox)
    for _ in range(MANY_MESSAGES - 1):
        spreader.add(round_, 10)
    assert outbox.flushed == []
    (run,) = concurrency.spawned
    run()
    assert len(outbox.flushed) == 1


@pytest.mark.usefixtures("soon")
def test_what_comes_after_a_round_has_begun_is_for_the_next() -> None:
    concurrency = Threads()
    spreader = Spreader(concurrency)
    flushed: list[str] = []

    class Late(Outbox):
        def flush(self) -> bool:
            flushed.append("a round")
            if len(flushed) == 1:
                spreader.add(round_, 10)
            return True

    round_ = make_round(Late())
    spreader.add(round_, 10)
    concurrency.spawned[0]()
    assert flushed == ["a round", "a round"]


@pytest.mark.parametrize(("count", "size"), [(MANY_MESSAGES, 10), (1, MANY_BYTES)])
def test_who_is_too_fast_for_the_spreader_does_its_work(count: int, size: int) -> None:
    outbox = Outbox()
    spreader, round_ = Spreader(Threads()), make_round(outbox)
    for _ in range(count):
        spreader.add(round_, size)
    assert outbox.flushed == [threading.current_thread()]


def test_without_threads_who_publishes_does_its_work() -> None:
    concurrency, outbox = Threads(), Outbox()
    concurrency.exhausted = True
    Spreader(concurrency).add(make_round(outbox), 10)
    assert outbox.flushed == [threading.current_thread()]


@pytest.mark.usefixtures("soon")
def test_the_thread_ends_and_another_follows() -> None:
    concurrency, outbox = Threads(), Outbox()
    spreader, round_ = Spreader(concurrency), make_round(outbox)
    for number in (1, 2):
        spreader.add(round_, 10)
        concurrency.spawned[-1]()
        assert (len(concurrency.spawned), len(outbox.flushed)) == (number, number)


@pytest.mark.usefixtures("soon")
def test_one_that_fails_takes_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Outbox):
        def flush(self) -> bool:
            raise MemoryError

    concurrency, other = Threads(), Outbox()
    Spreader(concurrency).add(make_round(Failing(), other), 10)
    concurrency.spawned[0]()
    assert len(other.flushed) == 1
    assert "outbox: a publication could not be delivered" in caplog.text
