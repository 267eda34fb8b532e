"""Tables: made when they are missing, and rid of what is too old."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import TypeVar

from . import history, used
from .link import Link, RefusedError, Statement

__all__ = ["TABLES", "Tables"]

T = TypeVar("T")

#: All of them.
TABLES = history.TABLES + used.TABLES

#: Several processes may do it at once.
CREATE = f"SELECT pg_advisory_xact_lock(7302134911);{TABLES}".encode()

#: The error code for a table that is not there.
UNDEFINED_TABLE = "42P01"

MISSING = (
    "A table of flask-ws's is missing: add create_tables=true to SOCK_BROKER_URL, or make the "
    "tables as flask-ws's page on PostgreSQL says."
)

#: Seconds from one deletion of what is too old to the next, by table.
PAUSES = {"flask_ws_messages": 60.0, "flask_ws_channels": 3600.0, "flask_ws_used": 60.0}
#: Rows that are deleted at a time, at most.
MANY_ROWS = 1000

PRUNE = """DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} WHERE expires < now() LIMIT {limit} FOR UPDATE SKIP LOCKED))"""
PRUNINGS = {
    table: Statement(
        f"flask_ws_prune_{table}".encode(), PRUNE.format(table=table, limit=MANY_ROWS).encode()
    )
    for table in PAUSES
}

#: Not the app's generator, which it may have seeded.
chance = random.SystemRandom()


class Tables:
    """The tables, as one process uses them.

    :param is_maker: whether it makes those that are missing.
    """

    def __init__(self, *, is_maker: bool) -> None:
        self._is_maker = is_maker
        now = time.monotonic()
        #: When each is to be pruned; not in all processes at once.
        self.due = {table: now + pause * chance.random() for table, pause in PAUSES.items()}

    def using(self, function: Callable[[Link], T], *pruned: str) -> Callable[[Link], T]:
        """Have the tables made if they are missing, and if that is wanted.

        :param function: uses them.
        :param pruned: those to which it adds; what is too old there is deleted from time to time.
        """

        def call(link: Link) -> T:
            answer = self._try(function, link)
            for table in pruned:
                if time.monotonic() >= self.due[table]:
                    # What was asked for has succeeded.
                    with contextlib.suppress(RefusedError, OSError):
                        self.prune(link, table)
            return answer

        return call

    def _try(self, function: Callable[[Link], T], link: Link) -> T:
        try:
            return function(link)
        except RefusedError as error:
            if error.code != UNDEFINED_TABLE:
                raise
            if not self._is_maker:
                raise RefusedError(error.code, MISSING) from None
        link.run(CREATE)
        return function(link)

    def prune(self, link: Link, table: str) -> None:
        """Delete what is too old; what is too much for once, next time."""
        self.due[table] = time.monotonic() + PAUSES[table] * chance.uniform(0.5, 1.5)
        if link.ask(PRUNINGS[table]).command_tuples == MANY_ROWS:
            self.due[table] = 0.0
