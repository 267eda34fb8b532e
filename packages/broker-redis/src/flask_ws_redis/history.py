"""Histories: a stream and a hash for each channel, at the channel's own server of a cluster.

The stream has the messages, in fields named ``o`` (the offset) and ``m``. The hash has one field:
the epoch is its name, and the offset of the last message its value. It stays for a day longer.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

from redis.exceptions import TimeoutError as RedisTimeoutError

from flask_ws import History, Position, Retention

from .clock import ServerClock
from .keys import key_of
from .scripts import Execute, make_script, run

__all__ = ["Histories", "history_keys", "opening", "wrap"]

#: Seconds for which the position of a channel is known after its last message is gone.
IDLE_SECONDS = 86400
#: Seconds after which a process has the keys of a channel expire later, at most.
RENEWAL_SECONDS = 60.0
#: The channels of which a process remembers when it did so last.
REMEMBERED = 2048

#: The first byte of what is not just a publication's payload: a message with a position, or one
#: that happens to begin with this byte.
MARK = b"\0"
KEPT = MARK + b"@"
ESCAPED = MARK + b"="

#: An epoch has so many bytes, each of which is two digits.
EPOCH_BYTES = 8

# What differs from channel to channel is an argument; what an app's configuration says is part of
# the script, since each argument takes its time.

# The arguments are the deadline, the channel, the message, and the epoch. What is not done is
# answered with the time. The stream is trimmed in steps, which is faster; reading leaves out the
# rest.
CHECK = """
local call, epoch = redis.call, ARGV[4]
local time = call('TIME')
local left = ARGV[1] - time[1] * 1000 - time[2] / 1000
if left < 0 or left > {answer} then return time end
"""

TRIM = """
    local oldest = math.max(time[1] * 1000 - {kept}, 0)
    call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest))
    call('XTRIM', KEYS[1], 'MAXLEN', '~', {messages})
"""

TELL = """
call('{command}', ARGV[2], '\\0@' .. epoch .. ' ' .. offset .. ' ' .. ARGV[3])
"""

# This is done where the process knows the epoch, and both keys are to be there.
KEEP = (
    CHECK
    + """
local offset = call('HINCRBY', KEYS[2], epoch, 1)
if offset == 1 then
    call('HDEL', KEYS[2], epoch)
    return time
end
if not call('XADD', KEYS[1], 'NOMKSTREAM', '*', 'o', offset, 'm', ARGV[3]) then
    call('HINCRBY', KEYS[2], epoch, -1)
    return time
end
if offset % {step} == 0 then
"""
    + TRIM
    + "end"
    + TELL
    + "return offset"
)

# And this the first time, and from time to time: the keys expire later.
BEGIN = (
    CHECK
    + """
local known = call('HKEYS', KEYS[2])[1]
if known then epoch = known else call('DEL', KEYS[1]) end
local offset = call('HINCRBY', KEYS[2], epoch, 1)
call('XADD', KEYS[1], '*', 'o', offset, 'm', ARGV[3])
call('PEXPIRE', KEYS[1], {expiry})
call('PEXPIRE', KEYS[2], {known})
"""
    + TRIM
    + TELL
    + "return epoch .. ' ' .. offset"
)

READ = """
local state, time = redis.call('HGETALL', KEYS[2]), redis.call('TIME')
if not state[1] then
    state = {{ARGV[1], 0}}
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[2], ARGV[1], 0)
end
redis.call('PEXPIRE', KEYS[2], {known})
local epoch, offset = state[1], state[2]
local after = ARGV[3] == epoch and tonumber(ARGV[4]) or 0
local count = math.min(ARGV[2], offset - after)
local answer = {{epoch .. ' ' .. offset}}
if count > 0 then
    local oldest = math.max(time[1] * 1000 + math.floor(time[2] / 1000) - {kept} + 1, 0)
    oldest = string.format('%.0f', oldest)
    local entries = redis.call('XREVRANGE', KEYS[1], '+', oldest, 'COUNT', count)
    -- Offsets and messages, and no lists: to read an answer takes longer than to make it.
    for number = #entries, 1, -1 do
        local fields = entries[number][2]
        answer[#answer + 1] = fields[2]
        answer[#answer + 1] = fields[4]
    end
end
return answer
"""


class Kept:
    """What a process knows of a channel's history.

    :param command: that which publishes.
    :param answer: seconds that an answer is waited for.
    """

    __slots__ = ("begin", "epoch", "keep", "keys", "read", "renewal", "renewed")

    def __init__(self, command: str, answer: float, channel: bytes, retention: Retention) -> None:
        self.keys = history_keys(channel)
        self.renewal = min(retention.seconds / 2, RENEWAL_SECONDS)
        #: When the keys were last made to expire later, by the monotonic clock; and the epoch then.
        self.renewed = float("-inf")
        self.epoch = ""
        kept = max(1, round(retention.seconds * 1000))
        expiry = kept + round(self.renewal * 1000)
        values = {
            "answer": round(answer * 1000),
            "kept": kept,
            "expiry": expiry,
            "known": expiry + IDLE_SECONDS * 1000,
            "messages": retention.messages,
            "step": retention.messages // 10 + 1,
            "command": command,
        }
        self.keep = make_script(KEEP, **values)
        self.begin = make_script(BEGIN, **values)
        self.read = make_script(READ, **values)


class Histories:
    """The histories of an app's channels.

    :param command: the command that publishes.
    :param answer: seconds that an answer is waited for.
    """

    def __init__(self, command: str, answer: float) -> None:
        make = functools.partial(Kept, command, answer)
        self._find = functools.lru_cache(REMEMBERED)(make)

    def keep(
        self,
        execute: Execute,
        clock: ServerClock,
        channel: bytes,
        payload: bytes,
        retention: Retention,
    ) -> Position:
        """Number a message, keep it, and publish it.

        :param execute: sends a command.
        :param clock: the server's.
        :raises RedisTimeoutError: the server has refused it, since it was too late.
        """
        kept, now = self._find(channel, retention), time.monotonic()
        if now < kept.renewed + kept.renewal:
            epoch = kept.epoch
            rest = clock.make_deadline(), channel, payload, epoch
            answer = run(execute, kept.keep, kept.keys, *rest)
            if isinstance(answer, int):
                return Position(epoch, answer)
            clock.read(answer)
        # It has hung for a moment, one of the two clocks was set, or it has lost the history.
        for _ in range(2):
            rest = clock.make_deadline(), channel, payload, _make_epoch()
            answer = run(execute, kept.begin, kept.keys, *rest)
            if isinstance(answer, bytes):
                position = _read_position(answer)
                kept.epoch, kept.renewed = position.epoch, now
                return position
            clock.read(answer)
        raise RedisTimeoutError("it was too late")

    def read(
        self, execute: Execute, channel: bytes, retention: Retention, since: Position | None
    ) -> History:
        """Read the position, and what is kept after another.

        :param execute: sends a command.
        """
        kept = self._find(channel, retention)
        number = 0 if since is None else retention.messages
        rest = _make_epoch(), number, *(since or ("", 0))
        state, *found = run(execute, kept.read, kept.keys, *rest)
        messages = [
            (int(offset), text) for offset, text in zip(found[::2], found[1::2], strict=True)
        ]
        return History(_read_position(state), messages)


def _make_epoch() -> str:
    return os.urandom(EPOCH_BYTES).hex()


def _read_position(state: bytes) -> Position:
    epoch, offset = state.decode().split(" ")
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
