"""Tables: made when they are missing, and rid of what is too old."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from . import channels, history, presence, used
from .link import Link, RefusedError, Statement

__all__ = ["TABLES", "Tables"]

T = TypeVar("T")

#: All of them.
TABLES = channels.TABLES + history.TABLES + used.TABLES + presence.TABLES

#: Several processes may do it at once.
CREATE = f"SELECT pg_advisory_xact_lock(7302134911);{TABLES}".encode()

#: The error code for a table that is not there.
UNDEFINED_TABLE = "42P01"

MISSING = (
    "A table of flask-ws's is missing: add create_tables=true to SOCK_BROKER_URL, or make the "
    "tables as flask-ws's page on PostgreSQL says."
)

#: Rows that are deleted at a time, at most.
MANY_ROWS = 1000


class Pruning(NamedTuple):
    """How a table is pruned."""

    #: Seconds from one deletion to the next.
    pause: float
    condition: str = "expires < now()"


PRUNINGS = {
    "flask_ws_channels": Pruning(3600.0),
    "flask_ws_messages": Pruning(60.0),
    "flask_ws_used": Pruning(60.0),
    "flask_ws_members": Pruning(
        3600.0,
        "NOT EXISTS (SELECT FROM flask_ws_channels AS channel"
        " WHERE channel.epoch = flask_ws_members.epoch)",
    ),
    # Its term is known for a while, so that what comes late is found to be late.
    "flask_ws_leases": Pruning(3600.0, "expires < now() - interval '1 hour'"),
}
STATEMENTS = {
    table: Statement(
        f"flask_ws_prune_{table}".encode(),
        f"""DELETE FROM {table} WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {table} WHERE {pruning.condition}
            LIMIT {MANY_ROWS} FOR UPDATE SKIP LOCKED))""".encode(),  # noqa: S608 (of constants)
    )
    for table, pruning in PRUNINGS.items()
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
        self.due = {
            table: now + pruning.pause * chance.random() for table, pruning in PRUNINGS.items()
        }

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
        self.due[table] = time.monotonic() + PRUNINGS[table].pause * chance.uniform(0.5, 1.5)
        if link.ask(STATEMENTS[table]).command_tuples == MANY_ROWS:
            self.due[table] = 0.0
