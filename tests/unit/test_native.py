"""Primitives of the operating system's threads."""

from __future__ import annotations

import threading

from tests.support.waiting import PATIENCE

from flask_ws.concurrency import native_threads


def test_a_thread_waits_for_an_event_that_another_sets() -> None:
    event, heard = native_threads.event(), native_threads.event()

    def listen() -> None:
        if event.wait(PATIENCE):
            heard.set()

    native_threads.spawn(listen, "listener")
    assert not event.wait(0.01)
    event.set()
    assert heard.wait(PATIENCE)


def test_an_event_that_is_set_is_so_until_it_is_cleared() -> None:
    event = native_threads.event()
    assert not event.is_set()
    event.set()
    event.set()
    assert event.is_set()
    assert event.wait()
    assert event.wait(0)
    event.clear()
    event.clear()
    assert not event.is_set()
    assert not event.wait(0)


def test_threads_are_those_of_the_standard_library_where_nothing_is_patched() -> None:
    """Which have names."""
    names, done = list[str](), native_threads.event()

    def look() -> None:
        names.append(threading.current_thread().name)
        done.set()

    native_threads.spawn(look, "flask_ws.look")
    assert done.wait(PATIENCE)
    assert names == ["flask_ws.look"]
    assert native_threads.get_ident() == threading.get_ident()
