"""The tables: who makes them, what they take, and what is deleted there."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.support.brokers import OpenProcess
from tests.support.histories import Open, subscribe
from tests.support.postgresql import PostgresServer, count, execute
from tests.support.waiting import until

from flask_ws import BrokerError, Lease, Retention
from flask_ws_postgresql.tables import TABLES

# They share a server.
pytestmark = pytest.mark.xdist_group("test_broker_postgresql")

PLENTY = Retention(100, 600)
NAMES = re.findall(r"CREATE UNLOGGED TABLE IF NOT EXISTS (\w+)", TABLES)
DROP = f"DROP TABLE IF EXISTS {', '.join(NAMES)}"


def test_the_tables_are_made_when_told_to(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """By several at once, too."""
    execute(server, DROP)
    processes = [open_process(server.url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each.broker.publish_kept("made", b"", PLENTY), processes))
    assert processes[0].broker.read_history("made", PLENTY).position.offset == 4


def test_else_it_is_said_that_they_are_missing_and_what_to_do(
    server: PostgresServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a minute; what needs no history works."""
    execute(server, DROP)
    process = open_process(server.url.replace("?create_tables=true", ""), "a")
    for _ in range(3):
        with pytest.raises(BrokerError, match="create_tables=true"):
            process.broker.publish_kept("a", b"", PLENTY)
        with pytest.raises(BrokerError, match="create_tables=true"):
            process.broker.use_once("a", 60)
    process.broker.publish("a", b"payload")
    process.await_payload(b"payload")
    assert not process.broker.is_away
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_the_tables_and_permissions_of_the_docs_suffice(
    server: PostgresServer, root: Path, open_: Open, open_process: OpenProcess
) -> None:
    """For all that needs one; and the tables are the ones that we make."""
    page = (root / "docs/postgresql.md").read_text()
    tables, grants = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert tables == TABLES
    execute(
        server,
        DROP,
        "CREATE ROLE app LOGIN PASSWORD 'password'",
        *tables.split(";\n"),
        *grants.split(";\n"),
    )
    url = f"postgresql://app:password@127.0.0.1:{server.port}/postgres"
    channels = open_(url)
    connection = subscribe(channels, "allowed", "all")
    assert channels.publish("allowed", "a")
    until(lambda: connection.got == ["a"])
    broker: Any = open_process(url).broker
    assert broker.use_once("allowed", 60)
    assert broker.publish_kept("allowed", b"", PLENTY).offset == 1
    broker.renew_lease(Lease("lease", 1), 60, [])
    assert broker.change_members("present", Lease("lease", 1), {"lease.1": b""}, ["lease.0"])
    broker.expire_members({"present": None})
    assert broker.read_members("present").members == {"lease.1": b""}
    (link,) = broker._pool._idle
    for table in broker._tables.due:
        broker._tables.prune(link, table)
    assert link.place.count("/") == 2
    execute(server, "DROP OWNED BY app", "DROP ROLE app")


def test_tables_of_before_are_completed(server: PostgresServer, open_process: OpenProcess) -> None:
    """By whoever misses one."""
    broker = open_process(server.url).broker
    before = broker.publish_kept("completed", b"", PLENTY)
    execute(server, "DROP TABLE flask_ws_used")
    assert broker.use_once("completed", 60)
    assert broker.read_history("completed", PLENTY).position == before


def test_what_was_used_is_deleted_when_it_is_forgotten(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    broker: Any = open_process(server.url).broker
    broker.use_once("kept", 60)
    execute(
        server,
        "INSERT INTO flask_ws_used"
        " SELECT 'old' || n, now() - interval '1s' FROM generate_series(1, 1500) AS n",
    )
    broker._tables.due["flask_ws_used"] = 0.0
    for left in (500, 0):
        assert broker.use_once(f"new {left}", 60)
        assert count(server, "flask_ws_used WHERE expires < now()") == left
    assert not broker.use_once("kept", 60)
    assert broker._tables.due["flask_ws_used"] > 0
