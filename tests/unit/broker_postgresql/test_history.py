"""Channels that remember, on a real PostgreSQL: what survives which failure."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import psycopg
import pytest
from tests.support.brokers import OpenProcess
from tests.support.histories import (
    GAP,
    HistoriesOnServer,
    Open,
    is_away,
    run_machine,
    subscribe,
)
from tests.support.postgresql import PostgresServer, count, execute
from tests.support.waiting import until

from flask_ws import Broker, BrokerError, Position, Retention
from flask_ws_postgresql import history
from flask_ws_postgresql.link import Statement

# They share a server.
pytestmark = pytest.mark.xdist_group("test_broker_postgresql")

PLENTY = Retention(100, 600)
NOWHERE = Position("", 0)


@pytest.fixture
def broker(server: PostgresServer, open_process: OpenProcess) -> Any:
    return open_process(server.url).broker


# Processes


class TestServer(HistoriesOnServer):
    @pytest.fixture
    def port(self, server: PostgresServer) -> int:
        return server.port

    @pytest.fixture
    def url_at(self, server: PostgresServer) -> Callable[[int], str]:
        return lambda port: server.make_url(port=port)


@pytest.mark.parametrize(
    ("end", "told"),
    [(PostgresServer.stop, []), (PostgresServer.kill, [GAP])],
    ids=["stopped", "killed"],
)
def test_what_a_stop_keeps_and_a_crash_loses_is_said(
    server: PostgresServer, open_: Open, end: Callable[[PostgresServer], None], told: list[str]
) -> None:
    channel = f"ended {told}"
    here = open_(server.url)
    connection = subscribe(here, channel)
    position = here.publish(channel, "before").position
    until(lambda: connection.got == ["before"])
    end(server)
    until(lambda: is_away(here))
    server.start()
    until(lambda: not is_away(here))
    until(lambda: connection.got == ["before", *told])
    assert here.publish(channel, "after")
    until(lambda: connection.got == ["before", *told, "after"])
    assert subscribe(here, channel, position).got == [*told, "after"]


# What begins a new history: all are gaps, said


@pytest.mark.parametrize(
    "happens",
    [
        "TRUNCATE flask_ws_channels, flask_ws_messages",
        # As from a backup of the database, here or elsewhere; of a server that took over.
        "UPDATE flask_ws_channels SET place = 'elsewhere'",
        # As from a backup of the tables.
        (
            "CREATE TABLE copied AS SELECT * FROM flask_ws_channels; DROP TABLE flask_ws_channels;"
            "ALTER TABLE copied RENAME TO flask_ws_channels;"
            "ALTER TABLE flask_ws_channels ADD PRIMARY KEY (name)"
        ),
    ],
    ids=["emptied", "moved", "restored"],
)
def test_a_database_that_was_emptied_or_restored_begins_anew(
    server: PostgresServer, broker: Any, happens: str
) -> None:
    before = broker.publish_kept("anew", b"before", PLENTY)
    execute(server, *happens.split(";"))
    history = broker.read_history("anew", PLENTY, before)
    assert history.position.epoch != before.epoch
    assert history == (Position(history.position.epoch, 0), [])
    after = broker.publish_kept("anew", b"after", PLENTY)
    assert after == (history.position.epoch, 1)
    execute(server, *happens.split(";"))
    assert broker.publish_kept("anew", b"again", PLENTY).epoch not in (before.epoch, after.epoch)


def test_each_copy_of_a_database_is_told_from_the_others(
    server: PostgresServer, broker: Any
) -> None:
    broker.publish_kept("place", b"", PLENTY)
    (link,) = broker._pool._idle
    system, timeline, database = link.place.split("/")
    assert int(system) > 0
    assert timeline == "00000001"
    assert int(database) > 0


# One step


def test_a_publication_that_fails_is_not_half_there(
    server: PostgresServer, broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = broker.publish_kept("half", b"before", PLENTY)
    with monkeypatch.context() as patch:
        # Longer than a notification may be.
        patch.setattr(history, "split", lambda payload: ["A" * 8000])
        with pytest.raises(BrokerError, match="payload"):
            broker.publish_kept("half", b"failed", PLENTY)
    assert broker.read_history("half", PLENTY, NOWHERE) == (before, [(1, b"before")])
    assert broker.publish_kept("half", b"after", PLENTY) == (before.epoch, 2)


def test_many_who_publish_at_once_get_one_run_of_positions(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """And all subscribers get the messages in that order."""
    receiver = open_process(server.url, "run")
    publishers = [open_process(server.url) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        positions = list(
            pool.map(
                lambda n: publishers[n % 3].broker.publish_kept("run", b"%d" % n, PLENTY), range(90)
            )
        )
    until(lambda: len(receiver.positions) == 90)
    assert receiver.positions == sorted(positions)
    assert [offset for _, offset in receiver.positions] == list(range(1, 91))
    by_position = dict(zip(positions, range(90), strict=True))
    assert [b"%d" % by_position[place] for place in receiver.positions] == [
        payload for _, payload in receiver.delivered
    ]


# What is kept, and for how long


def test_the_database_keeps_no_more_than_is_needed(
    server: PostgresServer, broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that are too many soon, and those that are too old a minute later."""
    execute(server, "TRUNCATE flask_ws_channels, flask_ws_messages")
    for number in range(40):
        broker.publish_kept("many", b"%d" % number, Retention(10, 600))
    assert 10 <= count(server, "flask_ws_messages") <= 12
    broker.publish_kept("old", b"", Retention(10, 0.001))
    execute(server, "UPDATE flask_ws_channels SET expires = now() WHERE name = 'many'")
    broker._tables.due = dict.fromkeys(broker._tables.due, 0.0)
    broker.publish_kept("new", b"", PLENTY)
    assert broker.read_history("old", PLENTY, NOWHERE).messages == []
    assert count(server, "flask_ws_channels") == 2
    assert count(server, "flask_ws_messages") <= 13
    due = broker._tables.due
    assert due["flask_ws_channels"] > 0 < due["flask_ws_messages"]


def test_more_than_can_be_deleted_at_once_is_deleted_next_time(
    server: PostgresServer, broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish_kept("prune", b"", PLENTY)
    monkeypatch.setitem(broker._tables.due, "flask_ws_messages", 0.0)
    execute(
        server,
        "INSERT INTO flask_ws_messages SELECT 'old', n, '', now(), now() - interval '1s'"
        " FROM generate_series(1, 1500) AS n",
    )
    for left in (500, 0):
        broker.publish_kept("prune", b"", PLENTY)
        assert count(server, "flask_ws_messages WHERE epoch = 'old'") == left


def test_the_databases_defaults_do_not_matter(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """Transactions that would see no others, write nothing, or wait for long."""
    options = "-c default_transaction_isolation=serializable -c default_transaction_read_only=on"
    query = "&options=" + options.replace(" ", "%20")
    processes = [open_process(server.make_url(query=query)) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda n: processes[n % 2].broker.publish_kept("defaults", b"", PLENTY), range(40)
            )
        )


def test_a_transaction_that_blocks_a_channel_delays_it_and_no_other(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """For as long as an answer may take; then the publication is refused, and not made later."""
    broker = open_process(server.make_url(query="&answer_timeout=0.5")).broker
    before = broker.publish_kept("blocked", b"", PLENTY)
    with psycopg.connect(server.url.partition("?")[0]) as client:
        client.execute("SELECT FROM flask_ws_channels FOR UPDATE")
        with pytest.raises(BrokerError):
            broker.publish_kept("blocked", b"lost", PLENTY)
    until(lambda: not _fails(broker))
    assert broker.read_history("blocked", PLENTY, NOWHERE).position == before


def test_a_server_that_had_hung_takes_nothing_late(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """Its publisher has been told that it failed, and its subscribers have it already."""
    broker: Any = open_process(server.make_url(query="&answer_timeout=0.3")).broker
    before = broker.publish_kept("late", b"before", PLENTY)
    (link,) = broker._pool._idle
    backend = int(link.ask(Statement(b"", b"SELECT pg_backend_pid()::text")).get_value(0, 0))
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(BrokerError, match="no answer"):
            broker.publish_kept("late", b"late", PLENTY)
    finally:
        server.signal(signal.SIGCONT)
    # When its connection has ended, it has done all that it was told.
    until(lambda: not psutil.pid_exists(backend))
    assert open_process(server.url).broker.read_history("late", PLENTY).position == before


def test_a_clock_that_was_set_costs_nothing(
    server: PostgresServer, broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish_kept("clock", b"", PLENTY)
    (link,) = broker._pool._idle
    for seconds in (-3600, 3600):
        link._ahead += seconds
        assert broker.publish_kept("clock", b"", PLENTY)


def _fails(broker: Broker) -> bool:
    try:
        broker.publish("blocked", b"")
    except BrokerError:
        return True
    return False


# The machine on paper


@pytest.mark.parametrize("seed", range(6))
def test_no_hole_nothing_twice_or_a_gap_on_postgresql(
    server: PostgresServer, broker: Any, seed: int
) -> None:
    broker.read_history("news", PLENTY)
    with server.client() as client:
        run_machine(
            seed,
            broker,
            lambda: client.execute("TRUNCATE flask_ws_channels, flask_ws_messages"),
        )
