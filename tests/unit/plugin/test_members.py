"""Who is there, in memory."""

from __future__ import annotations

import pytest

from flask_ws.plugin import members as members_module
from flask_ws.plugin.members import MemberTable
from flask_ws.plugin.presence import Lease

LEASE = Lease("lease", 1)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> MemberTable:
    monkeypatch.setattr(members_module, "MOST_EMPTY", 10)
    monkeypatch.setattr(members_module, "MANY_CHANNELS", 20)
    table = MemberTable()
    table.renew(LEASE, 60.0)
    return table


def test_names_that_clients_make_up_take_memory_for_a_while_only(table: MemberTable) -> None:
    table.change("here", LEASE, {"lease.0": b"somebody"}, ())
    for number in range(200):
        table.change(str(number), LEASE, {"lease.1": b"somebody"}, ())
        table.change(str(number), LEASE, {}, ["lease.1"])
    assert sum(table.read(str(number)).position.offset for number in range(200)) <= 2 * 22
    assert table.read("199").position.offset == 2
    assert table.read("here").members == {"lease.0": b"somebody"}
