from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer

from flask_ws import Concurrency, Sock, system
from flask_ws.http import admission
from flask_ws.http.admission import Descriptors
from flask_ws.http.takeover import Takeover
from flask_ws.system import count_descriptors, descriptor_limit

resource = pytest.importorskip("resource")


@pytest.fixture(autouse=True)
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Descriptors:
    """What was counted before is forgotten."""
    descriptors = Descriptors()
    monkeypatch.setattr(admission, "descriptors", descriptors)
    return descriptors


@pytest.fixture
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the process have so many more descriptors than are in use, as far as we look."""

    def allow(more: int) -> None:
        limit = (count_descriptors() or 0) + more
        monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))

    return allow


@pytest.mark.parametrize("way", [{}, {"detach": True}, {"detachable": True}])
def test_descriptors_are_left_for_the_server(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    caplog: pytest.LogCaptureFixture,
    few_descriptors: Callable[[int], None],
    way: dict[str, Any],
) -> None:
    sock.route("/")(lambda ws: None)
    few_descriptors(3)
    response = server.refuse(app, **way)

    assert response.status == 503
    assert int(response.get("Retry-After") or 0) > 0
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "(ulimit -n)" in record.getMessage()


def test_with_descriptors_left_a_handshake_is_accepted(
    app: Flask, sock: Sock, server: MemoryServer, few_descriptors: Callable[[int], None]
) -> None:
    sock.route("/")(lambda ws: None)
    few_descriptors(10_000)

    assert server.connect(app).answer_close().close_code == 1000


@pytest.mark.parametrize(("limit", "reserve"), [(256, 32), (1024, 128), (2**20, 1024)])
def test_an_eighth_is_reserved_up_to_1024(
    descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch, limit: int, reserve: int
) -> None:
    used = limit - reserve
    monkeypatch.setattr(admission, "count_descriptors", lambda: used - 1)
    assert descriptors.has_room(limit)
    assert not descriptors.has_room(limit)


def test_descriptors_are_counted_again_after_a_while_or_a_number_of_handshakes(
    descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at each handshake: that would take longer than all the rest of it."""
    counted: list[None] = []

    def count() -> int:
        counted.append(None)
        return 100

    monkeypatch.setattr(admission, "count_descriptors", count)
    monkeypatch.setattr(admission, "PERIOD", 3600.0)
    for _ in range(160):
        assert descriptors.has_room(1024)
    assert len(counted) == 10
    monkeypatch.setattr(admission, "PERIOD", 0.0)
    for _ in range(16):
        descriptors.has_room(1024)
    counted.clear()
    assert descriptors.has_room(1024)
    assert descriptors.has_room(1024)
    assert len(counted) == 2


def test_all_descriptors_are_counted_but_that_of_the_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = {"/dev/fd": ["0", "1", "2", "7", "8"]}
    monkeypatch.setattr(os, "listdir", folders.__getitem__)
    assert count_descriptors() == 4


def test_the_limit_is_that_of_the_system() -> None:
    assert descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize("unlimited", ["by the system", "on this system"])
def test_there_may_be_no_limit(monkeypatch: pytest.MonkeyPatch, unlimited: str) -> None:
    if unlimited == "by the system":
        monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    else:
        monkeypatch.setattr(system, "resource", None)
    assert descriptor_limit() is None


def test_there_is_no_room_where_there_is_no_descriptor_to_count_with(
    descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "listdir", fail)
    assert not descriptors.has_room(1024)


def test_there_is_room_where_descriptors_cannot_be_counted(
    descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> list[str]:
        raise FileNotFoundError(errno.ENOENT, path)

    monkeypatch.setattr(os, "listdir", fail)
    assert descriptors.has_room(1024)


def test_a_connection_not_taken_for_want_of_descriptors_is_a_503(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have taken them in between; the server has its connection still."""

    def fail(takeover: Takeover) -> None:
        raise OSError(24, "Too many open files")

    sock.route("/")(lambda ws: None)
    monkeypatch.setattr(Takeover, "take", fail)
    assert server.refuse(app, detach=True).status == 503


class NoThreads(Concurrency):
    """Primitives of a system that has no more threads, for now."""

    name = "no threads"
    has_some = False

    def spawn(self, target: Callable[[], object], name: str) -> None:
        if not self.has_some:
            raise RuntimeError("can't start new thread")
        super().spawn(target, name)


def test_no_thread_for_the_monitor_is_a_503_and_not_a_101(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost by it: the next handshake may succeed."""
    concurrency = NoThreads()
    sock.route("/")(lambda ws: ws.send("hello"))
    assert server.refuse(app, concurrency=concurrency).status == 503
    assert "no more threads" in caplog.text

    concurrency.has_some = True
    assert server.connect(app, concurrency=concurrency).read() == "hello"
