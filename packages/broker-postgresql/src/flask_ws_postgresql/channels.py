"""Statements: a channel's epoch, and its last number, in a table that the others build on."""

from __future__ import annotations

import os

from .link import Link, RefusedError, Statement

__all__ = ["IDLE_SECONDS", "IS_HERE", "TABLES", "begin", "find_place", "make_epoch"]

#: Seconds for which a channel is known after its last message is gone, or its members were changed.
IDLE_SECONDS = 86400

#: A channel's row is locked by who publishes there, until the transaction's end: so its messages
#: have one order. No table is logged: a publication need not wait for the disk, and keep all others
#: in the database waiting, as only one transaction with a NOTIFY commits at a time; and what a
#: crash has emptied begins anew, with another epoch. So does what was begun elsewhere, and came
#: here by a backup.
TABLES = """\
CREATE UNLOGGED TABLE IF NOT EXISTS flask_ws_channels (
    name bytea PRIMARY KEY,
    epoch text COLLATE "C" NOT NULL,
    place text NOT NULL,
    number bigint NOT NULL,
    expires timestamptz NOT NULL
) WITH (fillfactor = 50);
"""

#: Where this database is: another for each copy of it. What a user may not ask is left out.
PLACES = (
    b"""SELECT system_identifier::text
        || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
    FROM pg_control_system()""",
    b"SELECT oid::text FROM pg_database WHERE datname = current_database()",
)

# A table that was made anew has another identifier.
HERE = "{place}::text || '/' || to_regclass('flask_ws_channels')::oid"

#: Whether a row of the table is of this place.
IS_HERE = f"channel.place = {HERE}"

BEGIN = f"""INSERT INTO flask_ws_channels AS known (name, epoch, place, number, expires)
    SELECT {{name}}::bytea, {{epoch}}::text, {HERE}, {{first}},
        clock_timestamp() + make_interval(secs => {{seconds}}::float8 + {IDLE_SECONDS})
    WHERE {{condition}}
    ON CONFLICT (name) DO UPDATE SET
        epoch = CASE WHEN known.place = excluded.place THEN known.epoch ELSE excluded.epoch END,
        number = CASE WHEN known.place = excluded.place THEN known.number ELSE 0 END + {{first}},
        place = excluded.place,
        expires = greatest(known.expires, excluded.expires)
    WHERE {{condition}}"""


def begin(
    name: str,
    epoch: str,
    place: str,
    seconds: str,
    *,
    first: int = 0,
    condition: str = "true",
) -> str:
    """Return the statement that locks a channel's row, and begins it anew if it is not there.

    :param epoch: for a new beginning.
    :param first: what is added to its number.
    :param condition: without it nothing happens; asked again when the row is locked.
    """
    return BEGIN.format(
        name=name, epoch=epoch, place=place, seconds=seconds, first=first, condition=condition
    )


def make_epoch() -> str:
    """Make an epoch for a new beginning."""
    return os.urandom(8).hex()


def find_place(link: Link) -> str:
    """Tell this database from its copies: a restored backup, or a standby that took over."""
    if link.place is None:
        for question in PLACES:
            try:
                result = link.ask(Statement(b"", question))
            except RefusedError:
                continue
            link.place = (result.get_value(0, 0) or b"").decode()
            break
    return link.place or ""
