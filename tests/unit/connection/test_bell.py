"""Waking a thread for which a message has come."""

from __future__ import annotations

import errno
import os
import sys
import threading
from queue import SimpleQueue

import pytest
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE, until

from flask_ws.connection import bell as bell_module
from flask_ws.connection.bell import Bell, make_bell

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
