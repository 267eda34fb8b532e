from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer

from flask_ws import Sock, system
from flask_ws.http import admission
from flask_ws.http.takeover import Takeover

resource = pytest.importorskip("resource")


@pytest.fixture
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the process have so many more descriptors than are in use, as far as we look."""

    def allow(more: int) -> None:
        with socket.socket() as sock:
            limit = sock.fileno() + more
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


def test_descriptors_in_use_are_counted_as_far_as_there_is_no_gap() -> None:
    """The lowest number that is free says it, at the cost of two system calls."""
    with socket.socket() as one:
        before, limit = system.descriptors_left(one)
        held = [socket.socket() for _ in range(20)]
        after, _ = system.descriptors_left(one)
        for other in held:
            other.close()
    assert limit == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert before - after == 20


def test_a_process_without_a_limit_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    with socket.socket() as one:
        assert system.descriptors_left(one) == (sys.maxsize, None)


def test_a_system_without_limits_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "resource", None)
    with socket.socket() as one:
        assert system.descriptors_left(one) == (sys.maxsize, None)


def test_none_are_left_where_none_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> int:
        raise OSError(24, "Too many open files")

    with socket.socket() as one, monkeypatch.context() as patched:
        patched.setattr(os, "dup", fail)
        assert system.descriptors_left(one)[0] == 0


@pytest.mark.parametrize(("limit", "reserve"), [(256, 32), (1024, 128), (2**20, 1024)])
def test_an_eighth_is_reserved_up_to_1024(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    reserve: int,
) -> None:
    sock.route("/")(lambda ws: None)
    monkeypatch.setattr(admission, "descriptors_left", lambda _: (reserve - 1, limit))
    assert server.refuse(app).status == 503
    monkeypatch.setattr(admission, "descriptors_left", lambda _: (reserve, limit))
    assert server.connect(app).answer_close().close_code == 1000


def test_a_connection_that_cannot_be_taken_for_want_of_descriptors_is_a_503(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have taken them in between; the server has its connection still."""

    def fail(takeover: Takeover) -> None:
        raise OSError(24, "Too many open files")

    sock.route("/")(lambda ws: None)
    monkeypatch.setattr(Takeover, "detach", fail)
    assert server.refuse(app, detach=True).status == 503
