"""Warnings that come once a minute at most."""

from __future__ import annotations

import pytest

from flask_ws import sparing


@pytest.mark.parametrize(("seconds", "number"), [(59.0, 1), (60.0, 2)])
def test_a_warning_comes_once_a_minute(
    seconds: float,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("flask_ws.sparing.time.monotonic", lambda: now[0])
    for _ in range(2):
        sparing.warn_sparingly("kind", "It happened: %d", 1)
        now[0] += seconds
    assert len(caplog.records) == number


def test_another_kind_comes_at_once(caplog: pytest.LogCaptureFixture) -> None:
    for route in ("feed", "chat"):
        sparing.warn_sparingly(("kind", route), "%s", route)
    assert len(caplog.records) == 2
