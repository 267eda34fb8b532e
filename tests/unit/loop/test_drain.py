"""Goodbyes that are spread over some time, and how many handshakes are admitted."""

from __future__ import annotations

import threading
from bisect import bisect_right
from random import Random
from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer, in_thread
from tests.support.waiting import PATIENCE, until

from flask_ws import Sock, WebSocket, WebSocketView
from flask_ws.concurrency import threads
from flask_ws.loop import monitor as monitor_module
from flask_ws.loop.drain import Drain, HandshakeRate


class Watched:
    """A connection that has been idle since, on a server that waits for handlers so long."""

    def __init__(self, idle_since: float = 0.0, stop_timeout: float = 30.0) -> None:
        self._idle_since = idle_since
        self.stop_timeout = stop_timeout
        self.leaving_since = 100.0

    def idle_since(self, now: float) -> float:
        return self._idle_since


def plan(drain: Drain, *watches: Any) -> list[tuple[float, Any]]:
    return drain.plan(list(watches), 100.0)


def make_drain(seconds: float) -> Drain:
    drain = Drain()
    drain.seconds = seconds
    return drain


def test_by_default_all_are_told_at_once() -> None:
    assert {when for when, _ in plan(Drain(), Watched(), Watched())} == {100.0}


def test_goodbyes_are_spread_evenly() -> None:
    """After a tenth of the time, in which others start that take over."""
    planned = plan(make_drain(20.0), *[Watched() for _ in range(4)])
    assert [when for when, _ in planned] == [102.0, 106.5, 111.0, 115.5]


def count_peak(times: list[float]) -> int:
    """The most that come within a second."""
    times = sorted(times)
    return max(bisect_right(times, first + 1.0) - number for number, first in enumerate(times))


def test_clients_that_wait_at_random_come_back_evenly() -> None:
    """At most one and a half times as many a second as evenly over the whole time."""
    seconds, number = 20.0, 2000
    planned = plan(make_drain(seconds), *[Watched() for _ in range(number)])
    chance, ready_at = Random(1), 100.0 + 1.5
    # As the browser's client does: after its first failure it waits for up to two seconds. Whoever
    # comes before the new processes have started waits for them.
    times = [max(ready_at, when + chance.uniform(0, 2)) for when, _ in planned]
    assert count_peak(times) <= 1.5 * number / seconds


def test_who_has_been_idle_longest_is_told_first() -> None:
    watches = [Watched(30.0), Watched(10.0), Watched(20.0)]
    told = [watch for _, watch in plan(make_drain(20.0), *watches)]
    assert told == [watches[1], watches[2], watches[0]]


@pytest.mark.parametrize(("stop_timeout", "last"), [(12.0, 105.5), (2.0, 111.0)])
def test_all_are_told_before_a_server_ends_that_waits_so_long(
    stop_timeout: float, last: float
) -> None:
    """2 s is what plugins have that do not say."""
    watches = [Watched(stop_timeout=stop_timeout) for _ in range(2)]
    assert plan(make_drain(20.0), *watches)[-1][0] == last


def test_a_drain_that_the_app_begins_takes_its_time() -> None:
    drain = make_drain(20.0)
    drain.begun = True
    assert plan(drain, Watched(stop_timeout=12.0), Watched())[-1][0] == 111.0


# Waiting for who takes over


def plan_at(now: float, *answers: bool | None) -> list[float]:
    """When two clients are told of a server that stopped at 100 and has 30 s."""
    drain, watches = make_drain(20.0), [Watched(), Watched()]
    return [when for when, _ in drain.plan(watches, now, answers)]


def test_nobody_is_told_before_others_answer() -> None:
    assert plan_at(103.0, None) == []


def test_from_then_on_goodbyes_have_the_whole_time() -> None:
    assert plan_at(103.0, True) == [103.0, 113.0]


def test_they_have_less_where_the_server_ends_before() -> None:
    """Two seconds before that: at 128."""
    assert plan_at(112.0, True) == [112.0, 120.0]


def test_others_are_waited_for_half_of_the_time_at_most() -> None:
    assert plan_at(113.9, None) == []
    assert plan_at(114.0, None) == [114.0, 121.0]


def test_who_cannot_come_back_before_the_end_is_told_at_once() -> None:
    assert plan_at(105.0, False) == [105.0, 105.0]


def serve(app: Flask, sock: Sock, seconds: float) -> None:
    app.config["SOCK_DRAIN"] = seconds

    @sock.route("/")
    class Feed(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            pass


def test_field_has_successor_says_when_goodbyes_begin(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the process, too."""
    monkeypatch.setattr(monitor_module, "TICK", 0.02)
    serve(app, sock, 2.0)
    stopping, replaced, asked = threading.Event(), threading.Event(), threading.Event()

    def has_successor() -> bool | None:
        asked.set()
        return replaced.is_set() or None

    peer = server.connect(
        app, is_stopping=stopping.is_set, has_successor=has_successor, detachable=True
    )
    stopping.set()
    assert asked.wait(PATIENCE)
    assert monitor_module.is_draining()
    monitor = monitor_module.monitor_for(threads)
    saying = in_thread(monitor.say_goodbye)
    assert not monitor._goodbyes.are_planned
    replaced.set()
    assert peer.answer_close().close_code == 1001
    saying.result(PATIENCE)


def test_a_plugin_that_fails_to_tell_delays_nobody(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    serve(app, sock, 0.1)

    def has_successor() -> bool:
        raise LookupError

    stopping = threading.Event()
    peer = server.connect(
        app, is_stopping=stopping.is_set, has_successor=has_successor, detachable=True
    )
    stopping.set()
    assert peer.answer_close().close_code == 1001
    assert [record.message for record in caplog.records if record.exc_info] != []


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_stopping_server_tells_all_its_clients(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(monitor_module, "TICK", 0.02)
    serve(app, sock, seconds)
    stopping = threading.Event()
    peers = [server.connect(app, is_stopping=stopping.is_set, detachable=True) for _ in range(3)]
    stopping.set()
    futures = [in_thread(peer.answer_close) for peer in peers]
    assert {future.result(PATIENCE).close_code for future in futures} == {1001}


def test_a_draining_server_refuses_handshakes(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["SOCK_DRAIN"] = 20.0
    sock.route("/")(lambda ws: None)
    assert server.refuse(app, is_stopping=lambda: True).status == 503
    assert "(SOCK_DRAIN)" in caplog.text


def test_an_app_may_begin_to_drain(app: Flask, sock: Sock, server: MemoryServer) -> None:
    serve(app, sock, 0.0)
    peer = server.connect(app, detachable=True)
    sock.drain()
    assert peer.answer_close().close_code == 1001
    assert server.refuse(app).status == 503


def test_clients_are_not_told_to_come_back_together(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: None)
    sock.drain()
    assert len({server.refuse(app).get("Retry-After") for _ in range(30)}) > 3


# Handshakes a second


def test_handshakes_of_a_second_are_admitted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("flask_ws.loop.drain.time.monotonic", lambda: now[0])
    rate = HandshakeRate()
    assert [rate.admit(2.0) for _ in range(3)] == [True, True, False]
    now[0] += 0.5
    assert [rate.admit(2.0) for _ in range(2)] == [True, False]
    now[0] += 60.0
    assert [rate.admit(2.0) for _ in range(3)] == [True, True, False]


def test_a_rate_below_one_admits_one_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("flask_ws.loop.drain.time.monotonic", lambda: now[0])
    rate = HandshakeRate()
    found = []
    for _ in range(4):
        found.append(rate.admit(0.5))
        now[0] += 1.0
    assert found == [True, False, True, False]


def test_one_more_is_refused(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["SOCK_HANDSHAKE_RATE"] = 1 / 3600
    sock.route("/")(lambda ws: None)
    assert server.connect(app).answer_close().close_code == 1000
    response = server.refuse(app)
    assert response.status == 503
    assert int(response.get("Retry-After") or 0) > 0
    assert "(SOCK_HANDSHAKE_RATE)" in caplog.text


def test_the_end_of_the_process_waits_for_the_last_goodbye(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    serve(app, sock, 0.4)
    peers = [server.connect(app, detachable=True) for _ in range(3)]
    monitor = monitor_module.monitor_for(threads)
    saying = in_thread(monitor.say_goodbye)
    assert [peer.answer_close().close_code for peer in peers] == [1001] * 3
    saying.result(PATIENCE)
    until(lambda: not len(monitor))
