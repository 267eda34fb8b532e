"""Waking a thread for which a message has come."""

from __future__ import annotations

import errno
import functools
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE, until

from flask_ws.connection import bell as bell_module
from flask_ws.connection.bell import Bell, Ringer, make_bell

needs_bells = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="Linux has eventfd")


@needs_bells
def test_ring_wakes_the_thread() -> None:
    bell = Bell()
    woken = in_thread(bell.sleep, lambda: True)
    until(lambda: bell._asleep)
    bell.ring()
    woken.result(PATIENCE)


@needs_bells
def test_what_has_come_already_needs_no_ring() -> None:
    Bell().sleep(lambda: False)


@needs_bells
def test_no_message_is_missed_whenever_threads_take_turns() -> None:
    bell, inbox, taken = Bell(), SimpleQueue[int](), threading.Semaphore(0)
    received: list[int] = []

    def receive() -> None:
        while len(received) < 3000:
            if inbox.empty():
                bell.sleep(inbox.empty)
            while not inbox.empty():
                received.append(inbox.get())
                taken.release()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        received_all = in_thread(receive)
        for number in range(3000):
            inbox.put(number)
            bell.ring()
            if number % 3 == 0:
                # The thread may be about to sleep, or to be woken, or neither.
                assert taken.acquire(timeout=PATIENCE)
        received_all.result(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert received == list(range(3000))


@needs_bells
def test_its_descriptor_is_closed_with_it() -> None:
    bell = Bell()
    number = bell._fd
    del bell
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(number)


@needs_bells
def test_bells_take_an_eighth_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    # Those of other tests may be there still.
    monkeypatch.setattr(bell_module, "_open", set())
    monkeypatch.setattr(bell_module, "descriptor_limit", lambda: 16)
    bells = [make_bell() for _ in range(3)]
    assert [bell is not None for bell in bells] == [True, True, False]


def test_without_a_descriptor_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "eventfd", fail, raising=False)
    assert make_bell() is None


def test_system_without_them_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "eventfd", raising=False)
    assert make_bell() is None


class Loop:
    """A loop of which a test runs one turn after the other."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def call_soon(self, function: Callable[[], object]) -> None:
        self.calls.append(function)

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Heard:
    """A bell that notes when it is rung; it may be interrupted then."""

    def __init__(self, rung: list[str], name: str) -> None:
        self.rung = rung
        self.name = name
        self.interruption: BaseException | None = None

    def ring(self) -> None:
        if self.interruption is not None:
            error, self.interruption = self.interruption, None
            raise error
        self.rung.append(self.name)


def test_first_thread_is_woken_at_once_the_others_after_the_turn() -> None:
    loop, rung = Loop(), list[str]()
    ringer = Ringer(loop)  # type: ignore[arg-type]
    for _ in range(2):
        for name in "abc":
            ringer.ring(Heard(rung, name))  # type: ignore[arg-type]
        assert rung == ["a"]
        loop.run()
        assert rung == ["a", "b", "c"]
        assert not loop.calls
        rung.clear()


@pytest.mark.parametrize("interrupted", "abc")
def test_an_interruption_leaves_no_thread_asleep(interrupted: str) -> None:
    loop, rung = Loop(), list[str]()
    ringer = Ringer(loop)  # type: ignore[arg-type]
    bells = {name: Heard(rung, name) for name in "abc"}
    bells[interrupted].interruption = KeyboardInterrupt()
    interruptions = 0
    steps: list[Callable[[], object]] = [
        functools.partial(ringer.ring, bell)  # type: ignore[arg-type]
        for bell in bells.values()
    ]
    for step in [*steps, loop.run]:
        try:
            step()
        except KeyboardInterrupt:
            interruptions += 1
    loop.run()
    # Who rings hears of it where the first one is interrupted.
    assert rung == [name for name in "abc" if name != "a" or interrupted != "a"]
    assert interruptions == 1
    ringer.ring(bells["a"])  # type: ignore[arg-type]
    assert rung[-1] == "a"
