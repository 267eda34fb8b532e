"""The end of a connection at a time of the clock, and when the app says so."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import flask
import pytest
from flask import Flask, g, session

from flask_ws import Sock, WebSocket
from flask_ws.concurrency import threads
from flask_ws.identity import recheck as recheck_module
from flask_ws.identity.identities import read_time
from flask_ws.identity.recheck import Recheck, Rechecks
from flask_ws.testing import connect

from .conftest import declare


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck_module, "SOON", 0.01)


def test_a_connection_ends_when_its_time_has_come(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind)
    with connect(app, "/") as ws:
        ws.receive()
        end = time.time() + 0.3
        ws.send(f"set {end}")
        list(ws)
        assert (ws.close_code, ws.close_reason) == (4001, "the login has expired")
        assert time.time() >= end


def test_a_time_can_be_put_off(app: Flask, sock: Sock, kind: str) -> None:
    """What was set before does not count."""
    declare(sock, kind)
    with connect(app, "/") as ws:
        ws.receive()
        ws.send(f"set {time.time() + 0.1}")
        ws.send(f"set {time.time() + 1000}")
        ws.receive(), ws.receive()
        assert ws.receive(timeout=0.7) is None
        assert ws.close_code is None


def test_a_time_that_has_gone_ends_the_connection_at_once(
    app: Flask, sock: Sock, kind: str
) -> None:
    declare(sock, kind)
    with connect(app, "/") as ws:
        ws.send("set 0")
        list(ws)
        assert ws.close_code == 4001


def test_a_time_is_a_number_or_has_a_zone() -> None:
    when = datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert read_time(when) == read_time(1893456000) == 1893456000.0
    assert read_time(None) is None
    for wrong, error in (
        (datetime(2030, 1, 1), ValueError),
        (float("inf"), ValueError),
        (float("nan"), ValueError),
        ("2030", TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error):
            read_time(wrong)


def test_who_may_not_stay_is_closed(app: Flask, sock: Sock, kind: str) -> None:
    """By a false answer, or by abort(); a busy client, too."""
    may_stay = threading.Event()
    may_stay.set()

    @sock.recheck(seconds=0.05)
    def recheck(ws: Any) -> bool:
        return may_stay.is_set() or flask.abort(401)

    ended: list[Any] = []
    declare(sock, kind, ended)
    with connect(app, "/") as ws:
        ws.receive()
        assert ws.receive(timeout=0.2) is None
        may_stay.clear()
        list(ws)
        assert (ws.close_code, ws.close_reason) == (4001, "the login has ended")
    assert ended == [(4001, "the login has ended")]


def test_recheck_has_the_connections_context(app: Flask, sock: Sock, kind: str) -> None:
    """Its request and its session, but not what was left in g; and the ws."""
    seen: list[Any] = []
    is_seen = threading.Event()

    @app.before_request
    def leave() -> None:
        g.user = "ada"

    @sock.identify
    def who() -> str:
        return "ada"

    @sock.recheck
    def recheck(ws: Any) -> bool:
        seen.append((flask.request.path, session.get("name"), "user" in g, ws.identity))
        is_seen.set()
        return True

    declare(sock, kind)
    client = app.test_client()
    with client.session_transaction() as stored:
        stored["name"] = "Ada"
    with connect(client, "/") as ws:
        ws.receive()
        assert is_seen.wait(10)
    assert seen[0] == ("/", "Ada", False, "ada")


def test_recheck_reads_the_session_anew(app: Flask, sock: Sock) -> None:
    """Where the app keeps sessions, a logout is seen."""
    kept = {"user": "ada"}

    class Sessions(flask.sessions.SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: flask.Request) -> Any:
            return flask.sessions.SecureCookieSession(kept)

        def save_session(self, *args: Any) -> None:
            pass

    app.session_interface = Sessions()

    @sock.recheck(seconds=0.02)
    def recheck(ws: Any) -> bool:
        return "user" in session

    declare(sock, "handler")
    with connect(app, "/") as ws:
        assert ws.receive() == "None"
        assert ws.receive(timeout=0.1) is None
        kept.clear()
        assert list(ws) == []
        assert ws.close_code == 4001


def test_who_cannot_be_asked_about_stays(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the next time; the exception is reported, once for each time."""
    answers: Iterator[Any] = iter([True, ZeroDivisionError(), True, False])

    @sock.recheck(seconds=0.01)
    def recheck(ws: Any) -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    declare(sock, "handler")
    app.config["PROPAGATE_EXCEPTIONS"] = False
    errors: list[Exception] = []
    flask.got_request_exception.connect(note := lambda _, exception: errors.append(exception), app)
    with connect(app, "/") as ws:
        assert list(ws) == ["None"]
        assert ws.close_code == 4001
    assert [type(error) for error in errors] == [ZeroDivisionError]
    del note


def test_teardown_functions_are_called_for_each_question(app: Flask, sock: Sock) -> None:
    torn_down: list[object] = []
    is_done = threading.Event()

    @sock.recheck(seconds=0.01)
    def recheck(ws: Any) -> bool:
        g.database = len(torn_down)
        return len(torn_down) < 3

    @app.teardown_request
    def tear_down(_: object) -> None:
        if "database" in g:
            torn_down.append(g.database)
            is_done.set()

    declare(sock, "view")
    with connect(app, "/") as ws:
        list(ws)
    assert torn_down == [0, 1, 2, 3]


class Guest:
    """In place of a connection."""

    label = "A guest"

    def __init__(self) -> None:
        self.connected = True
        self.code: int | None = None

    def dismiss(self, code: int, reason: str) -> None:
        self.connected = False
        self.code = code


def test_one_thread_asks_about_all() -> None:
    """And ends when there is nobody left."""
    rechecks = Rechecks(threads)
    asked: set[str] = set()
    is_done = threading.Event()
    guests = [Guest() for _ in range(100)]
    left = iter(range(100))

    def ask() -> bool:
        asked.add(threading.current_thread().name)
        if next(left) == 99:
            is_done.set()
        return False

    kept = [Recheck(guest, ask, 5) for guest in guests]  # type: ignore[arg-type]
    for recheck in kept:
        rechecks.add(recheck)
    assert is_done.wait(10)
    assert asked == {"flask_ws.Recheck"}
    deadline = time.monotonic() + 10
    while rechecks._worker.is_running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not rechecks._worker.is_running
    assert {guest.code for guest in guests} == {4001}


def test_the_questions_are_spread_over_the_period() -> None:
    """Though all have connected at once."""
    rechecks = Rechecks(threads)
    times: list[float] = []
    guests = [Guest() for _ in range(50)]

    def ask() -> bool:
        times.append(time.monotonic())
        return len(times) < 100

    began = time.monotonic()
    kept = [Recheck(guest, ask, 1.0) for guest in guests]  # type: ignore[arg-type]
    for recheck in kept:
        rechecks.add(recheck)
    deadline = began + 10
    while len(times) < 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    seconds = [when - began for when in times[50:100]]
    assert min(seconds) >= 0.75
    assert max(seconds) - min(seconds) > 0.1
    for guest in guests:
        guest.connected = False


def test_a_connection_that_has_ended_is_not_kept() -> None:
    rechecks = Rechecks(threads)
    guest = Guest()
    recheck = Recheck(guest, lambda: True, 60)  # type: ignore[arg-type]
    rechecks.add(recheck)
    gone = weakref.ref(guest)
    del guest, recheck
    deadline = time.monotonic() + 10
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None


def test_the_end_of_a_login_is_no_error(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged as a warning."""

    @sock.recheck(seconds=0.01)
    def recheck(ws: Any) -> bool:
        return False

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        while True:
            ws.receive()

    with caplog.at_level(logging.WARNING), connect(app, "/") as ws:
        assert list(ws) == []
    assert not caplog.records
