"""Statements: what was used once, in a table."""

from __future__ import annotations

from .link import Link, Statement

__all__ = ["TABLES", "use"]

#: Not logged, as histories are not: what is used is remembered for a short time, and nobody is to
#: wait for the disk.
TABLES = """\
CREATE UNLOGGED TABLE IF NOT EXISTS flask_ws_used (
    key text COLLATE "C" PRIMARY KEY,
    expires timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS flask_ws_used_expires ON flask_ws_used (expires);
"""

# Of those who insert a key at the same time, all but one wait for that one's row. A row that has
# expired may not be deleted yet.
USE = Statement(
    b"flask_ws_use",
    b"""INSERT INTO flask_ws_used AS known (key, expires)
    VALUES ($1, clock_timestamp() + make_interval(secs => $2::float8))
    ON CONFLICT (key) DO UPDATE SET expires = excluded.expires
    WHERE known.expires <= clock_timestamp()""",
)


def use(link: Link, key: str, seconds: float) -> bool:
    """Take note that something is used; ``True`` for the first time."""
    return link.ask(USE, key, seconds).command_tuples == 1
