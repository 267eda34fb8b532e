"""Who is there, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.support.attendance import Member, PresenceOnServer, end_processes
from tests.support.brokers import OpenProcess
from tests.support.histories import is_away
from tests.support.postgresql import PostgresServer, count, execute
from tests.support.waiting import until

from flask_ws import BrokerError, Lease, Position

__all__ = ["end_processes"]

# They share a server.
pytestmark = pytest.mark.xdist_group("test_broker_postgresql")

LEASE = Lease("lease", 1)
LEFT = ("leave", "ada")


@pytest.fixture
def broker(server: PostgresServer, open_process: OpenProcess) -> Any:
    return open_process(server.url).broker


class TestServer(PresenceOnServer):
    @pytest.fixture
    def port(self, server: PostgresServer) -> int:
        return server.port

    @pytest.fixture
    def url(self, server: PostgresServer) -> str:
        return server.make_url(database=server.make_database())

    @pytest.fixture
    def url_at(self, server: PostgresServer) -> Callable[[int], str]:
        database = server.make_database()
        return lambda port: server.make_url(port=port, database=database)


@pytest.mark.usefixtures("end_processes")
def test_a_crash_costs_nobody_their_place(server: PostgresServer) -> None:
    """The processes tell again who is there, and what comes then arrives."""
    one, other = Member(server.url), Member(server.url)
    watcher = other.watch("room")
    ada = one.join("room", "ada")
    other.join("room", "bob")
    until(lambda: len(watcher.got) == 3)
    server.kill()
    until(lambda: is_away(one.channels) and is_away(other.channels))
    server.start()
    until(lambda: _read(one) == {"ada": [{}], "bob": [{}]})
    one.end(ada)
    until(lambda: _read(other) == {"bob": [{}]})
    until(lambda: [each for each in watcher.got if (each["event"], each.get("key")) == LEFT])


def _read(process: Member) -> dict[str, Any] | None:
    try:
        return process.read("room")
    except BrokerError:
        return None


def test_a_channel_that_begins_anew_has_nobody(server: PostgresServer, broker: Any) -> None:
    broker.renew_lease(LEASE, 60, [])
    broker.change_members("anew", LEASE, {"lease.1": b""}, [])
    before = broker.read_members("anew").position
    execute(server, "TRUNCATE flask_ws_channels")
    assert broker.read_members("anew") == (Position("", 0), {}, frozenset())
    broker.change_members("anew", LEASE, {"lease.2": b""}, [])
    after = broker.read_members("anew")
    assert after.position.epoch != before.epoch
    assert after.position.offset == 1
    assert after.members == {"lease.2": b""}


def test_the_database_keeps_nobody_who_cannot_come_back(
    server: PostgresServer, broker: Any
) -> None:
    """Members of what has begun anew, and leases that ran out long ago."""
    broker.renew_lease(LEASE, 60, [])
    execute(
        server,
        "TRUNCATE flask_ws_leases, flask_ws_members",
        "INSERT INTO flask_ws_members SELECT 'gone', n::text::bytea, '', ''"
        " FROM generate_series(1, 20) AS n",
        "INSERT INTO flask_ws_leases VALUES ('old', 1, now() - interval '2 hours')",
        "INSERT INTO flask_ws_leases VALUES ('just', 1, now() - interval '1 minute')",
    )
    broker._tables.due = dict.fromkeys(broker._tables.due, 0.0)
    broker.renew_lease(LEASE, 60, [])
    broker.change_members("kept", LEASE, {"lease.1": b""}, [])
    assert count(server, "flask_ws_members") == 1
    assert count(server, "flask_ws_leases") == 2
    assert broker.read_members("kept").members == {"lease.1": b""}
