"""Statements: publishing, and histories, in two tables."""

from __future__ import annotations

import os

from psycopg import pq

from flask_ws import History, Position, Retention

from .link import Link, Parameter, RefusedError, Statement
from .listener import name_notifications, split

__all__ = ["TABLES", "keep", "publish", "read"]

#: Seconds for which the position of a channel is known after its last message is gone.
IDLE_SECONDS = 86400

#: The tables. A channel's row is locked by who publishes there, until the transaction's end: so
#: its messages have one order. They are not logged: a publication need not wait for the disk, and
#: keep all others in the database waiting, as only one transaction with a NOTIFY commits at a time;
#: and what a crash has emptied begins anew, with another epoch. So does a history that was begun
#: elsewhere, and came here by a backup.
TABLES = """\
CREATE UNLOGGED TABLE IF NOT EXISTS flask_ws_channels (
    name bytea PRIMARY KEY,
    epoch text COLLATE "C" NOT NULL,
    place text NOT NULL,
    number bigint NOT NULL,
    expires timestamptz NOT NULL
) WITH (fillfactor = 50);
CREATE UNLOGGED TABLE IF NOT EXISTS flask_ws_messages (
    epoch text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    payload bytea NOT NULL,
    created timestamptz NOT NULL,
    expires timestamptz NOT NULL,
    PRIMARY KEY (epoch, number)
);
CREATE INDEX IF NOT EXISTS flask_ws_messages_expires ON flask_ws_messages (expires);
"""

#: Where this database is: another for each copy of it. What a user may not ask is left out.
PLACES = (
    b"""SELECT system_identifier::text
        || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
    FROM pg_control_system()""",
    b"SELECT oid::text FROM pg_database WHERE datname = current_database()",
)

PUBLISH = Statement(
    b"flask_ws_publish",
    b"""SELECT count(pg_notify($1,
        (n - 1) || ' ' || cardinality($2::text[]) || ' - ' || piece))
    FROM unnest($2::text[]) WITH ORDINALITY AS pieces (piece, n)""",
)

# A table that was made anew has another identifier.
BEGIN = """INSERT INTO flask_ws_channels AS known (name, epoch, place, number, expires)
    VALUES ($1, $2, $3 || '/' || to_regclass('flask_ws_channels')::oid, {first},
        clock_timestamp() + make_interval(secs => $4::float8 + {idle}))
    ON CONFLICT (name) DO UPDATE SET
        epoch = CASE WHEN known.place = excluded.place THEN known.epoch ELSE excluded.epoch END,
        number = CASE WHEN known.place = excluded.place THEN known.number ELSE 0 END + {first},
        place = excluded.place,
        expires = greatest(known.expires, excluded.expires)"""

TOUCH = Statement(b"flask_ws_touch", BEGIN.format(first=0, idle=IDLE_SECONDS).encode())

# Messages that are too many are deleted in steps, which is faster; reading leaves out the rest.
KEEP = Statement(
    b"flask_ws_keep",
    f"""WITH channel AS (
        {BEGIN.format(first=1, idle=IDLE_SECONDS)}
        RETURNING epoch, number
    ), message AS (
        INSERT INTO flask_ws_messages (epoch, number, payload, created, expires)
        SELECT epoch, number, $5, clock_timestamp(),
            clock_timestamp() + make_interval(secs => $4::float8)
        FROM channel
    ), deleted AS (
        DELETE FROM flask_ws_messages AS old USING channel
        WHERE old.epoch = channel.epoch AND old.number <= channel.number - $6::bigint
            AND channel.number % $7::bigint = 0
    )
    SELECT epoch || '-' || number, (
        SELECT count(pg_notify($8, (n - 1) || ' ' || cardinality($9::text[]) || ' '
            || epoch || '-' || channel.number || ' ' || piece))
        FROM unnest($9::text[]) WITH ORDINALITY AS pieces (piece, n)
    ) FROM channel""".encode(),  # noqa: S608 (of constants)
)

READ = Statement(
    b"flask_ws_read",
    f"""SELECT channel.epoch || '-' || channel.number, message.number, message.payload
    FROM flask_ws_channels AS channel LEFT JOIN flask_ws_messages AS message
        ON message.epoch = channel.epoch
        AND message.number > channel.number - $4::bigint
        AND message.number > CASE WHEN channel.epoch = $5 THEN $6::bigint ELSE 0 END
        AND message.created > clock_timestamp() - make_interval(secs => $3::float8)
    WHERE channel.name = $1
        AND channel.place = $2 || '/' || to_regclass('flask_ws_channels')::oid
        AND channel.expires
            > clock_timestamp() + make_interval(secs => $3::float8 + {IDLE_SECONDS // 2})
    ORDER BY message.number""".encode(),  # noqa: S608 (of constants)
)


def publish(link: Link, channel: str, payload: bytes) -> None:
    """Publish what is not kept."""
    link.ask(PUBLISH, name_notifications(channel), _make_array(split(payload)))


def keep(link: Link, channel: str, payload: bytes, retention: Retention) -> Position:
    """Number a message, keep it, and publish it."""
    result = link.ask(
        KEEP,
        *_begin(link, channel, retention),
        payload,
        retention.messages,
        retention.messages // 10 + 1,
        name_notifications(channel),
        _make_array(split(payload)),
    )
    return _read_position(result)


def read(link: Link, channel: str, retention: Retention, since: Position | None) -> History:
    """Read the position, and what is kept after another."""
    number = 0 if since is None else retention.messages
    epoch, offset = since or ("", 0)
    name, fresh, place, seconds = _begin(link, channel, retention)
    question = name, place, seconds, number, epoch, offset
    result = link.ask(READ, *question)
    if not result.ntuples:
        link.ask(TOUCH, name, fresh, place, seconds)
        result = link.ask(READ, *question)
    messages = []
    for row in range(result.ntuples):
        found, payload = result.get_value(row, 1), result.get_value(row, 2)
        if found is not None and payload is not None:
            messages.append((int.from_bytes(found, "big"), bytes(payload)))
    return History(_read_position(result), messages)


def _begin(
    link: Link, channel: str, retention: Retention
) -> tuple[Parameter, Parameter, Parameter, Parameter]:
    """Return the first parameters: the channel's name, and what a new history begins with."""
    # More than a century is forever.
    seconds = min(retention.seconds, 4e9)
    return channel.encode(), os.urandom(8).hex(), _find_place(link), seconds


def _find_place(link: Link) -> str:
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


def _read_position(result: pq.abc.PGresult) -> Position:
    position = Position.parse((result.get_value(0, 0) or b"").decode())
    assert position is not None
    return position


def _make_array(pieces: list[str]) -> str:
    # Base 64 has nothing that would have to be escaped; without quotes, NULL is not text.
    return '{"' + '","'.join(pieces) + '"}'
