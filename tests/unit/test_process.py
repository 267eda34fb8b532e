from __future__ import annotations

import gc
import os
import socket
import weakref
from collections.abc import Callable

import pytest
from tests.support.waiting import PATIENCE

from flask_ws import process
from flask_ws.once import Attempt
from flask_ws.plugin.manager import Plugins
from flask_ws.process import PerProcess, after_fork

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")


# Objects


def test_a_process_has_one_object_for_each_key() -> None:
    objects: PerProcess[str, object] = PerProcess()
    first = objects.get("one", object)
    assert objects.get("one", object) is first
    assert objects.get("two", object) is not first


def test_of_two_objects_made_at_once_one_is_kept() -> None:
    objects: PerProcess[str, object] = PerProcess()
    kept: list[object] = []

    def make() -> object:
        kept.append(objects.get("one", object))
        return object()

    assert objects.get("one", make) is kept[0]


def in_child(look: Callable[[], bool]) -> bool:
    """Fork; tell what the child sees."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.settimeout(PATIENCE)
        child = os.fork()
        if child == 0:
            try:
                theirs.send(b"\1" if look() else b"\0")
            finally:
                os._exit(0)
        try:
            return mine.recv(1) == b"\1"
        finally:
            os.waitpid(child, 0)


fork = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@needs_fork
@fork
def test_a_child_begins_without_objects() -> None:
    objects: PerProcess[str, object] = PerProcess()
    objects.get("one", object)
    assert in_child(lambda: objects.values() == [])


@needs_fork
@fork
def test_a_failed_reset_does_not_keep_the_next_from_being_called() -> None:
    called: list[str] = []
    failing = [True]

    def fail() -> None:
        if failing:
            raise OSError("failed on purpose")

    after_fork(fail)
    after_fork(lambda: called.append("next"))
    try:
        assert in_child(lambda: called == ["next"])
    finally:
        failing.clear()


def test_a_reset_does_not_keep_its_object_alive() -> None:
    class Thing:
        def start_anew(self) -> None:
            pass

    thing = Thing()
    after_fork(thing.start_anew)
    reference = weakref.ref(thing)
    del thing
    gc.collect()
    assert reference() is None


def test_nothing_is_kept_of_objects_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_resets", {})

    class Thing:
        def start_anew(self) -> None:
            pass

    def register() -> int:
        after_fork(Thing().start_anew)
        gc.collect()
        return len(process._resets)

    assert [register(), register()] == [1, 1]


@needs_fork
@fork
def test_a_child_can_load_plugins_though_its_parent_was_at_it() -> None:
    plugins = Plugins("flask_ws.no_such_group")
    attempt = Attempt()
    attempt.thread = -1
    plugins._loading._attempts["only"] = attempt
    assert in_child(lambda: plugins.load() == [] and plugins._found is not None)
