"""Tallies: the numbers of a route."""

from __future__ import annotations

from flask_ws.tally import PING_UNANSWERED, READS_TOO_SLOWLY, Tallies, Tally


class Counted:
    """A connection that has counted this."""

    def __init__(self, *counts: int) -> None:
        self.close_code: int | None = None
        self.close_reason = ""
        self.counts = (*(counts or (1, 2, 30, 40, 5)), 0.5)

    def ended(self, code: int, reason: str = "") -> Counted:
        self.close_code, self.close_reason = code, reason
        return self


def make_tally(*connections: Counted) -> Tally:
    tally = Tally(None, "/feed")
    for connection in connections:
        tally.add(connection)  # type: ignore[arg-type]
    return tally


def test_open_connections_count() -> None:
    stats = make_tally(Counted(), Counted()).read()
    assert (stats.open, stats.opened) == (2, 2)
    assert (stats.messages_in, stats.messages_out) == (2, 4)
    assert (stats.bytes_in, stats.bytes_out, stats.outbox) == (60, 80, 10)
    assert stats.busy_seconds == 1.0


def test_what_has_ended_still_counts_but_for_what_waited() -> None:
    first, second = Counted(), Counted()
    tally = make_tally(first, second)
    tally.end(first.ended(1001))  # type: ignore[arg-type]
    stats = tally.read()
    assert (stats.open, stats.opened, stats.closed) == (1, 2, {1001: 1})
    assert (stats.messages_in, stats.bytes_out) == (2, 80)
    assert stats.outbox == 5


def test_an_end_counts_once() -> None:
    connection = Counted()
    tally = make_tally(connection)
    for _ in range(2):
        tally.end(connection.ended(1000))  # type: ignore[arg-type]
    assert tally.read().closed == {1000: 1}


def test_ends_that_need_a_look_are_counted_apart() -> None:
    connections = Counted(), Counted(), Counted()
    tally = make_tally(*connections)
    for connection, how in zip(
        connections, (READS_TOO_SLOWLY, PING_UNANSWERED, (1013, "full")), strict=True
    ):
        tally.end(connection.ended(*how))  # type: ignore[arg-type]
    stats = tally.read()
    assert (stats.slow_readers, stats.unanswered_pings) == (1, 1)
    assert stats.closed == {1013: 2, 1006: 1}


def test_reading_changes_nothing() -> None:
    tally = make_tally(Counted())
    tally.refuse(403)
    tally.read().refused[403] = 7
    assert tally.read() == tally.read()
    assert tally.read().refused == {403: 1}


def test_a_child_begins_anew() -> None:
    tallies = Tallies(None)
    tallies.get("feed", lambda: "/feed").refuse(403)
    tallies.start_anew()
    assert tallies.read() == {}
