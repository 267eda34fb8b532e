"""Histories: a stream and a text for each channel, at the channel's own server of a cluster.

The stream has the messages, in fields named ``o`` (the offset) and ``m``. The text has the epoch
and the offset of the last message, between them a space; it stays for a day longer.
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

# The arguments are the deadline, the channel, the message, and sometimes the epoch of a history
# that is begun: with it the keys expire later, and without it they have to be there. What is not
# done is answered with the time. The stream is trimmed in steps, which is faster; reading leaves
# out the rest.
KEEP = """
local call = redis.call
local state, time, epoch = call('GET', KEYS[2]), call('TIME'), ARGV[4]
local left = ARGV[1] - time[1] * 1000 - time[2] / 1000
if left < 0 or left > {answer} or not (state or epoch) then return time end
if not state then
    call('DEL', KEYS[1])
    state = epoch .. ' 0'
end
local offset = string.format('%.0f', string.sub(state, {start}) + 1)
state = string.sub(state, 1, {start} - 1) .. offset
if epoch then
    call('XADD', KEYS[1], '*', 'o', offset, 'm', ARGV[3])
    call('PEXPIRE', KEYS[1], {expiry})
    call('SET', KEYS[2], state, 'PX', {known})
else
    if not call('XADD', KEYS[1], 'NOMKSTREAM', '*', 'o', offset, 'm', ARGV[3]) then
        return time
    end
    call('SET', KEYS[2], state, 'KEEPTTL')
end
if epoch or offset % {step} == 0 then
    local oldest = math.max(time[1] * 1000 - {kept}, 0)
    call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest))
    call('XTRIM', KEYS[1], 'MAXLEN', '~', {messages})
end
call('{command}', ARGV[2], '\\0@' .. state .. ' ' .. ARGV[3])
return state
"""

READ = """
local state, time = redis.call('GET', KEYS[2]), redis.call('TIME')
if not state then
    state = ARGV[1] .. ' 0'
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[2], state)
end
redis.call('PEXPIRE', KEYS[2], {known})
local epoch, offset = string.match(state, '^(.*) (.*)$')
local after = ARGV[3] == epoch and tonumber(ARGV[4]) or 0
local count = math.min(ARGV[2], offset - after)
local entries = {{}}
if count > 0 then
    local oldest = math.max(time[1] * 1000 + math.floor(time[2] / 1000) - {kept} + 1, 0)
    oldest = string.format('%.0f', oldest)
    entries = redis.call('XREVRANGE', KEYS[1], '+', oldest, 'COUNT', count)
end
return {{state, entries}}
"""


class Kept:
    """What a process knows of a channel's history.

    :param command: that which publishes.
    :param answer: seconds that an answer is waited for.
    """

    __slots__ = ("keep", "keys", "read", "renewal", "renewed")

    def __init__(self, command: str, answer: float, channel: bytes, retention: Retention) -> None:
        self.keys = history_keys(channel)
        self.renewal = min(retention.seconds / 2, RENEWAL_SECONDS)
        #: When the keys were last made to expire later, by the monotonic clock.
        self.renewed = float("-inf")
        kept = max(1, round(retention.seconds * 1000))
        expiry = kept + round(self.renewal * 1000)
        known = expiry + IDLE_SECONDS * 1000
        self.read = make_script(READ, kept=kept, known=known)
        self.keep = make_script(
            KEEP,
            answer=round(answer * 1000),
            start=2 * EPOCH_BYTES + 2,
            kept=kept,
            expiry=expiry,
            known=known,
            messages=retention.messages,
            step=retention.messages // 10 + 1,
            command=command,
        )


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
            answer = run(execute, kept.keep, kept.keys, clock.make_deadline(), channel, payload)
            if isinstance(answer, bytes):
                return _read_position(answer)
            clock.read(answer)
        # It has hung for a moment, one of the two clocks was set, or it has lost the history.
        for _ in range(2):
            rest = clock.make_deadline(), channel, payload, _make_epoch()
            answer = run(execute, kept.keep, kept.keys, *rest)
            if isinstance(answer, bytes):
                kept.renewed = now
                return _read_position(answer)
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
        state, entries = run(execute, kept.read, kept.keys, *rest)
        messages = [(int(fields[1]), fields[3]) for _, fields in reversed(entries)]
        return History(_read_position(state), messages)


def _make_epoch() -> str:
    return os.urandom(EPOCH_BYTES).hex()


def _read_position(state: bytes) -> Position:
    epoch, offset = state.decode().split(" ")
    return Position(epoch, int(offset))


def history_keys(channel: bytes) -> tuple[bytes, bytes]:
    """Return the keys of a channel's stream and text."""
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
