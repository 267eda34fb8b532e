"""What is logged of handlers that do not end with their connections."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer
from tests.support.waiting import PATIENCE, until

from flask_ws import Sock, WebSocket
from flask_ws.label import Label
from flask_ws.loop import blocked as blocked_module
from flask_ws.loop.blocked import BlockedCode


class Ended:
    """A connection that has ended, and whose handler runs on."""

    def __init__(self, endpoint: str = "feed") -> None:
        self.label = Label.make("192.0.2.1", "/feed", endpoint)
        self.work = "app.py:12 in feed"


def look(blocked: BlockedCode, now: float, *lingering: Any, stopping: tuple[Any, ...] = ()) -> None:
    blocked.look_at_handlers(now, lingering, stopping)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_handler_has_two_seconds_to_end(caplog: pytest.LogCaptureFixture) -> None:
    blocked, ended = BlockedCode(), Ended()
    look(blocked, 100.0, ended)
    look(blocked, 101.9, ended)
    assert not caplog.records


def test_a_handler_that_runs_on_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    blocked, ended = BlockedCode(), Ended()
    for now in (100.0, 102.0, 102.4, 500.0):
        look(blocked, now, ended)
    (line,) = lines(caplog)
    assert line == (
        f"{ended.label}: the handler of feed still runs 2 s after its connection has ended, at "
        "app.py:12 in feed. ws.connected tells it so, and send() and receive() raise "
        "ConnectionClosed."
    )


def test_a_route_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    blocked, many = BlockedCode(), [Ended() for _ in range(5)]
    look(blocked, 100.0, *many, Ended("other"))
    look(blocked, 102.0, *many, other := Ended("other"))
    look(blocked, 104.0, *many, other)
    assert ["feed" in line for line in lines(caplog)] == [True, True]
    assert "handler of other" in lines(caplog)[1]


def test_the_handlers_that_a_stopping_server_waits_for_are_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocked, many = BlockedCode(), tuple(Ended() for _ in range(10))
    for now in (100.0, 102.0):
        look(blocked, now, *many, stopping=many)
    (line,) = lines(caplog)
    assert line.startswith(
        "The server is stopping, with 10 handlers still running: feed (app.py:12"
    )
    assert " and 2 more. " in line


def test_one_handler_that_a_stopping_server_waits_for_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    blocked, ended = BlockedCode(), Ended()
    for now in (100.0, 102.0):
        look(blocked, now, ended, stopping=(ended,))
    (line,) = lines(caplog)
    assert line.startswith("The server is stopping, with 1 handler still running: feed (app.py:12")


def test_the_monitor_finds_them(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(blocked_module, "GRACE", 0.0)
    goes_on = threading.Event()

    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        assert goes_on.wait(PATIENCE)

    call = server.call(app, "/feed")
    server.accepted(call)
    call.peer.close(1001)
    until(lambda: caplog.records)
    goes_on.set()
    call.wait()
    (line,) = lines(caplog)
    assert "the handler of feed still runs" in line
    assert "test_blocked.py:" in line
    assert " in feed. " in line
