"""The dashboard: what the server pushes, and to whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from examples.dashboard import app as dashboard
from tests.support.server import wait_until

from flask_ws.testing import ClientWebSocket, connect


def is_measuring() -> bool:
    return any(thread.name == "dashboard" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(dashboard, "INTERVAL", 0.01)
    yield
    wait_until(lambda: not is_measuring(), what="the end of the thread that measures")


def receive_samples(ws: ClientWebSocket) -> list[dict[str, Any]]:
    """Those of the next message that has some."""
    samples: list[dict[str, Any]] = []
    while not samples:
        samples = ws.receive_json()["samples"]
    return samples


def count_viewers() -> int:
    with dashboard.app.app_context():
        return dashboard.sock.subscribers(dashboard.CHANNEL)


def test_a_viewer_is_sent_one_sample_after_the_other() -> None:
    with connect(dashboard.app, "/live") as ws:
        received = [sample for _ in range(4) for sample in receive_samples(ws)]
    times = [sample["time"] for sample in received]
    assert times == sorted(set(times))
    assert all(0 <= sample["cpu"] <= 100 and 0 < sample["memory"] <= 100 for sample in received)


def test_a_second_viewer_begins_with_what_the_first_has_seen() -> None:
    with connect(dashboard.app, "/live") as first:
        seen = receive_samples(first) + receive_samples(first)
        with connect(dashboard.app, "/live") as second:
            assert receive_samples(second)[:2] == seen


def test_a_viewer_who_pauses_is_sent_nothing() -> None:
    with connect(dashboard.app, "/live") as other, connect(dashboard.app, "/live") as ws:
        receive_samples(ws)
        ws.send("pause")
        wait_until(lambda: count_viewers() == 1)
        # Whatever was on its way: the first sample that counts one viewer follows it.
        while receive_samples(other)[-1]["viewers"] != 1:
            pass
        while ws.receive(timeout=0) is not None:
            pass
        receive_samples(other)
        assert ws.receive(timeout=0) is None
        ws.send("resume")
        assert "interval" in ws.receive_json()


def test_the_first_sample_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that measures is the one that has a baseline."""
    callers: list[int] = []

    def cpu_percent() -> float:
        callers.append(threading.get_ident())
        return 0.0 if callers.count(threading.get_ident()) == 1 else 50.0

    monkeypatch.setattr(psutil, "cpu_percent", cpu_percent)
    with connect(dashboard.app, "/live") as ws:
        assert receive_samples(ws)[0]["cpu"] == 50.0


def test_nothing_is_measured_for_nobody() -> None:
    with connect(dashboard.app, "/live") as ws:
        receive_samples(ws)
        assert is_measuring()
    wait_until(lambda: not is_measuring())
    assert not dashboard.history


def test_a_message_that_means_nothing_is_answered_with_1008() -> None:
    with connect(dashboard.app, "/live") as ws:
        ws.send("faster")
        assert [message for message in ws if "samples" not in str(message)] == []
        assert (ws.close_code, ws.close_reason) == (1008, 'Say "pause" or "resume".')
