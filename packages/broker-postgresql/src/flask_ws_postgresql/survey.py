"""Survey: each process that listens is asked for its channels, as PostgreSQL tells nobody."""

from __future__ import annotations

import json
import os
import re
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable

from flask_ws import BrokerError

from .link import Link, Statement
from .notifications import split

__all__ = ["NAME", "answer", "ask", "take_part"]

#: The notifications by which they are asked: those by which to answer, and the channels' prefix.
NAME = "flask_ws_survey"
QUESTION = re.compile(rb"(flask_ws_[0-9a-f]{32}) ((?:[0-9a-f]{2})*)")

#: A process that listens shares this lock. So it is known who has to answer.
LOCK = "730213, 4912"
LISTENERS = Statement(
    b"",
    b"""SELECT pid::text FROM pg_locks
    WHERE locktype = 'advisory' AND (classid, objid, objsubid) = (730213, 4912, 2)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())""",
)


def take_part(link: Link) -> None:
    """Have questions arrive on the connection on which a process listens."""
    link.run(f"LISTEN {NAME}".encode())
    # When it is heard, and not before.
    link.run(f"SELECT pg_advisory_lock_shared({LOCK})".encode())


def answer(question: bytes, channels: Iterable[str]) -> str | None:
    """Return the statement that answers; ``None`` for what is no question.

    :param channels: those that this process listens to.
    """
    parts = QUESTION.fullmatch(question)
    if parts is None:
        return None
    prefix = bytes.fromhex(parts[2].decode()).decode(errors="replace")
    pieces = split(json.dumps([name for name in channels if name.startswith(prefix)]).encode())
    # Without a number of its own, one that is like another would be left out.
    calls = (
        f"pg_notify('{parts[1].decode()}', pg_backend_pid() || ' {number} {len(pieces)} {piece}')"
        for number, piece in enumerate(pieces)
    )
    return f"SELECT {', '.join(calls)}"


def ask(link: Link, prefix: str, seconds: float) -> dict[str, int]:
    """Ask for the channels, and return the numbers of processes that listen to them.

    :param link: is closed then.
    :param prefix: how their names begin.
    :param seconds: for how long answers are awaited.
    :raises BrokerError: not all have answered.
    """
    reply = f"flask_ws_{os.urandom(16).hex()}"
    try:
        link.run(f"LISTEN {reply}".encode())
        asked = _find_listeners(link)
        link.run(f"NOTIFY {NAME}, '{reply} {prefix.encode().hex()}'".encode())
        deadline = time.monotonic() + seconds
        pieces: dict[int, list[bytes]] = {pid: [] for pid in asked}
        found: Counter[str] = Counter()
        while asked and (notification := link.await_notification(deadline)) is not None:
            pid, _, count, piece = notification[1].split(b" ")
            answered = pieces.setdefault(int(pid), [])
            answered.append(b64decode(piece))
            if len(answered) == int(count):
                found.update(json.loads(b"".join(answered)))
                asked.discard(int(pid))
        # Those that have ended meanwhile listen to nothing.
        silent = asked and asked & _find_listeners(link)
    finally:
        link.close()
    if silent:
        raise BrokerError(f"{len(silent)} of {len(pieces)} processes do not answer.")
    return dict(found)


def _find_listeners(link: Link) -> set[int]:
    result = link.ask(LISTENERS)
    return {int(result.get_value(row, 0) or b"0") for row in range(result.ntuples)}
