"""Statements: who is there, in two tables beside that of the channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flask_ws import Lease, Members, Position

from .channels import IS_HERE, begin, find_place, make_epoch
from .history import read_position
from .link import Link, Statement
from .notifications import PIECE_SIZE, name_notifications

__all__ = ["TABLES", "change", "expire", "read", "renew"]

#: Members are of a channel's epoch, as messages are. What a crash has emptied is filled again by
#: the processes that live: they find that their leases are lost.
TABLES = """\
CREATE UNLOGGED TABLE IF NOT EXISTS flask_ws_members (
    epoch text COLLATE "C" NOT NULL,
    member bytea NOT NULL,
    lease bytea NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (epoch, member)
);
CREATE UNLOGGED TABLE IF NOT EXISTS flask_ws_leases (
    name bytea PRIMARY KEY,
    term bigint NOT NULL,
    expires timestamptz NOT NULL
) WITH (fillfactor = 50);
"""

# The subquery sees the row as it was before.
RENEW = Statement(
    b"flask_ws_renew",
    b"""INSERT INTO flask_ws_leases AS known (name, term, expires)
    VALUES ($1, $2::bigint, clock_timestamp() + make_interval(secs => $3::float8))
    ON CONFLICT (name) DO UPDATE SET term = excluded.term, expires = excluded.expires
        WHERE known.term <= excluded.term OR known.expires <= clock_timestamp()
    RETURNING coalesce(
        (SELECT expires > clock_timestamp() FROM flask_ws_leases WHERE name = $1), false)::text""",
)

READ = Statement(
    b"flask_ws_read_members",
    f"""SELECT channel.epoch || '-' || channel.number, member.member, member.data,
        CASE WHEN lease.expires > clock_timestamp() THEN NULL ELSE member.lease END
    FROM flask_ws_channels AS channel
        LEFT JOIN flask_ws_members AS member ON member.epoch = channel.epoch
        LEFT JOIN flask_ws_leases AS lease ON lease.name = member.lease
    WHERE channel.name = $1 AND {IS_HERE.format(place="$2")}""".encode(),  # noqa: S608 (of constants)
)

# A change is two statements in one transaction. The first locks the channel's row; only what begins
# after that sees all that others have done who had the lock before.
BEGIN = Statement(b"flask_ws_begin", begin("$1", "$2", "$3", "0").encode())
LOCK = Statement(b"flask_ws_lock", b"SELECT FROM flask_ws_channels WHERE name = $1 FOR UPDATE")

CHANGES = """WITH channel AS (
        SELECT epoch, number FROM flask_ws_channels AS channel
        WHERE name = $1 AND {is_here}
    ), held AS (
        {held}
    ), dropped AS (
        DELETE FROM flask_ws_members AS old USING channel
        WHERE old.epoch = channel.epoch AND {dropped}
        RETURNING old.member
    ), put AS (
        {put}
    ), changes AS (
        SELECT row_number() OVER () AS n, message FROM (
            SELECT decode('2d', 'hex') || member AS message FROM dropped
            UNION ALL
            SELECT decode('2b', 'hex') || member || decode('20', 'hex') || data FROM put
        ) AS messages
    ), counted AS (
        UPDATE flask_ws_channels SET number = number + (SELECT count(*) FROM changes)
        WHERE name = $1 AND EXISTS (SELECT FROM changes)
    )
    SELECT EXISTS (SELECT FROM held), (
        SELECT count(pg_notify($3, text)) FROM (
            SELECT piece || ' ' || pieces || ' ' || epoch || '-' || number + n || ' ' || replace(
                encode(substring(message FROM piece * {size} + 1 FOR {size}), 'base64'), chr(10), ''
            ) AS text
            FROM channel CROSS JOIN changes
                CROSS JOIN LATERAL (SELECT (length(message) - 1) / {size} + 1 AS pieces) AS parts
                CROSS JOIN LATERAL generate_series(0, pieces - 1) AS piece
            ORDER BY n, piece
        ) AS notifications
    )"""

CHANGE = Statement(
    b"flask_ws_change",
    CHANGES.format(
        is_here=IS_HERE.format(place="$2"),
        size=PIECE_SIZE,
        held="""SELECT FROM flask_ws_leases
        WHERE name = $4 AND term = $5::bigint AND expires > clock_timestamp()""",
        dropped="old.member = ANY ($6::bytea[])",
        put="""INSERT INTO flask_ws_members AS known (epoch, member, lease, data)
        SELECT epoch, new.member, $4, new.data
        FROM channel CROSS JOIN unnest($7::bytea[], $8::bytea[]) AS new (member, data)
        WHERE EXISTS (SELECT FROM held)
        ON CONFLICT (epoch, member) DO UPDATE SET data = excluded.data
            WHERE known.data <> excluded.data
        RETURNING member, data""",
    ).encode(),
)
EXPIRE = Statement(
    b"flask_ws_expire",
    CHANGES.format(
        is_here=IS_HERE.format(place="$2"),
        size=PIECE_SIZE,
        held="SELECT WHERE false",
        dropped="""old.lease = ANY (coalesce($4::bytea[], ARRAY[old.lease])) AND NOT EXISTS (
            SELECT FROM flask_ws_leases AS lease
            WHERE lease.name = old.lease AND lease.expires > clock_timestamp())""",
        put="SELECT member, data FROM flask_ws_members WHERE false",
    ).encode(),
)


def change(
    link: Link, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
) -> bool:
    """Put members and drop others; whether the lease is held."""
    name, place = channel.encode(), find_place(link)
    result = link.ask_together(
        (BEGIN, (name, make_epoch(), place)),
        (
            CHANGE,
            (
                *(name, place, name_notifications(channel)),
                *(lease.name.encode(), lease.term, _encode(dropped)),
                *(_encode(put), list(put.values())),
            ),
        ),
    )
    return result.get_value(0, 0) == b"t"


def expire(link: Link, channel: str, leases: Collection[str] | None) -> None:
    """Drop the members whose leases nobody holds any more: of these, or all."""
    name, names = channel.encode(), None if leases is None else _encode(leases)
    link.ask_together(
        (LOCK, (name,)),
        (EXPIRE, (name, find_place(link), name_notifications(channel), names)),
    )


def read(link: Link, channel: str) -> Members:
    """Read the members, and the position."""
    result = link.ask(READ, channel.encode(), find_place(link))
    if not result.ntuples:
        return Members(Position("", 0), {})
    members, lost = {}, set()
    for row in range(result.ntuples):
        member, data, lease = (result.get_value(row, column) for column in (1, 2, 3))
        if member is not None and data is not None:
            members[bytes(member).decode()] = bytes(data)
        if lease is not None:
            lost.add(bytes(lease).decode())
    return Members(read_position(result), members, frozenset(lost))


def renew(link: Link, lease: Lease, seconds: float) -> bool:
    """Hold a lease; whether it was held before."""
    result = link.ask(RENEW, lease.name.encode(), lease.term, seconds)
    # What comes late changes nothing.
    return not result.ntuples or result.get_value(0, 0) == b"true"


def _encode(names: Iterable[str]) -> list[bytes]:
    return [name.encode() for name in names]
