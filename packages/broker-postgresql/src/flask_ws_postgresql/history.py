"""Statements: publishing, and the messages that are kept, in a table."""

from __future__ import annotations

from psycopg import pq

from flask_ws import History, Position, Retention

from .channels import IDLE_SECONDS, IS_HERE, begin, find_place, make_epoch
from .link import Link, LinkError, Parameter, Statement
from .notifications import name_notifications, split

__all__ = ["TABLES", "keep", "publish", "read", "read_position"]

#: Messages are of a channel's epoch: one that begins anew has none.
TABLES = """\
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

PUBLISH = Statement(
    b"flask_ws_publish",
    b"""SELECT count(pg_notify($1,
        (n - 1) || ' ' || cardinality($2::text[]) || ' - ' || piece))
    FROM unnest($2::text[]) WITH ORDINALITY AS pieces (piece, n)""",
)

CHANNEL = ("$1", "$2", "$3", "$4")

TOUCH = Statement(b"flask_ws_touch", begin(*CHANNEL).encode())

# What a server does only after it had hung is not done: its publisher has been told that it failed.
# Messages that are too many are deleted in steps, which is faster; reading leaves out the rest.
KEEP = Statement(
    b"flask_ws_keep",
    f"""WITH channel AS (
        {begin(*CHANNEL, first=1, condition="clock_timestamp() < to_timestamp($10::float8)")}
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
    WHERE channel.name = $1 AND {IS_HERE.format(place="$2")}
        AND channel.expires
            > clock_timestamp() + make_interval(secs => $3::float8 + {IDLE_SECONDS // 2})
    ORDER BY message.number""".encode(),  # noqa: S608 (of constants)
)


def publish(link: Link, channel: str, payload: bytes) -> None:
    """Publish what is not kept."""
    link.ask(PUBLISH, name_notifications(channel), _make_array(split(payload)))


def keep(link: Link, channel: str, payload: bytes, retention: Retention) -> Position:
    """Number a message, keep it, and publish it."""
    parameters = (
        *_begin(link, channel, retention),
        payload,
        retention.messages,
        retention.messages // 10 + 1,
        name_notifications(channel),
        _make_array(split(payload)),
    )
    for _ in range(2):
        result = link.ask(KEEP, *parameters, link.make_deadline())
        if result.ntuples:
            return read_position(result)
        # It has hung for a moment, or one of the two clocks was set.
        link.ask_for_time()
    raise LinkError("it was too late")


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
    return History(read_position(result), messages)


def _begin(
    link: Link, channel: str, retention: Retention
) -> tuple[Parameter, Parameter, Parameter, Parameter]:
    """Return the first parameters: the channel's name, and what a new history begins with."""
    # More than a century is forever.
    seconds = min(retention.seconds, 4e9)
    return channel.encode(), make_epoch(), find_place(link), seconds


def read_position(result: pq.abc.PGresult) -> Position:
    """Read the position that is the first value of a result."""
    position = Position.parse((result.get_value(0, 0) or b"").decode())
    assert position is not None
    return position


def _make_array(pieces: list[str]) -> str:
    # Base 64 has nothing that would have to be escaped; without quotes, NULL is not text.
    return '{"' + '","'.join(pieces) + '"}'
