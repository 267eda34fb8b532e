"""Histories: a stream and a hash for each channel, at the channel's own server of a cluster.

The stream has the messages, in fields named ``o`` (the offset) and ``m``. The hash has the epoch,
``e``, and the offset of the last message, ``o``; it stays for a day longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from flask_ws import History, Position, Retention

from .keys import key_of
from .scripts import Execute, Script, make_script, run

__all__ = ["keep", "opening", "read", "wrap"]

#: Seconds for which the position of a channel is known after its last message is gone.
IDLE_SECONDS = 86400

#: The first byte of what is not just a publication's payload: a message with a position, or one
#: that happens to begin with this byte.
MARK = b"\0"
KEPT = MARK + b"@"
ESCAPED = MARK + b"="

# What differs from channel to channel is an argument; what an app's configuration says is part of
# the script, since each argument takes its time. Both begin a new history where there is none.
BEGIN = """
local epoch = redis.call('HGET', KEYS[2], 'e')
if not epoch then
    epoch = ARGV[1]
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[2], 'e', epoch, 'o', 0)
end
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - {kept} + 1
oldest = string.format('%.0f', math.max(oldest, 0))
redis.call('PEXPIRE', KEYS[2], {known})
"""

# The stream is trimmed in steps, which is faster; reading leaves out the rest.
PUBLISH = (
    BEGIN
    + """
local offset = redis.call('HINCRBY', KEYS[2], 'o', 1)
redis.call('XADD', KEYS[1], 'MAXLEN', '~', {messages}, '*', 'o', offset, 'm', ARGV[3])
redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
redis.call('PEXPIRE', KEYS[1], {kept})
redis.call('{command}', ARGV[2], '\\0@' .. epoch .. ' ' .. offset .. ' ' .. ARGV[3])
return epoch .. '-' .. offset
"""
)

READ = (
    BEGIN
    + """
local offset = tonumber(redis.call('HGET', KEYS[2], 'o'))
local after = ARGV[3] == epoch and tonumber(ARGV[4]) or 0
local count = math.min(ARGV[2], offset - after)
local entries = {{}}
if count > 0 then
    entries = redis.call('XREVRANGE', KEYS[1], '+', oldest, 'COUNT', count)
end
return {{epoch .. '-' .. offset, entries}}
"""
)


def keep(
    execute: Execute, channel: bytes, payload: bytes, retention: Retention, *, command: str
) -> Position:
    """Number a message, keep it, and publish it.

    :param execute: sends a command.
    :param command: that which publishes.
    """
    script = _make(PUBLISH, retention, command)
    return _read_position(_run(execute, script, channel, channel, payload))


def read(execute: Execute, channel: bytes, retention: Retention, since: Position | None) -> History:
    """Read the position, and what is kept after another.

    :param execute: sends a command.
    """
    script = _make(READ, retention)
    number = 0 if since is None else retention.messages
    after = since or Position("", 0)
    position, entries = _run(execute, script, channel, number, after.epoch, after.offset)
    messages = [(int(fields[1]), fields[3]) for _, fields in reversed(entries)]
    return History(_read_position(position), messages)


def _make(template: str, retention: Retention, command: str = "") -> Script:
    kept = max(1, round(retention.seconds * 1000))
    return make_script(
        template,
        messages=retention.messages,
        kept=kept,
        known=kept + IDLE_SECONDS * 1000,
        command=command,
    )


def _run(execute: Execute, script: Script, channel: bytes, *args: Any) -> Any:
    return run(execute, script, history_keys(channel), os.urandom(8).hex(), *args)


def _read_position(text: bytes) -> Position:
    epoch, _, offset = text.decode().rpartition("-")
    return Position(epoch, int(offset))


def history_keys(channel: bytes) -> tuple[bytes, bytes]:
    """Return the keys of a channel's stream and hash."""
    name = key_of(channel, b"h")
    return name, name + b"e"


def wrap(payload: bytes) -> bytes:
    """Make what is published of a payload, on a channel without history."""
    return ESCAPED + payload if payload[:1] == MARK else payload


def opening(deliver: Callable[..., object]) -> Callable[[str, bytes], object]:
    """Return a function that delivers what was published."""

    def open_(channel: str, message: bytes) -> None:
        if message[:1] != MARK:
            deliver(channel, message)
        elif message.startswith(KEPT):
            epoch, offset, payload = message[len(KEPT) :].split(b" ", 2)
            deliver(channel, payload, Position(epoch.decode(), int(offset)))
        else:
            deliver(channel, message[len(ESCAPED) :])

    return open_
