"""Who is there: a hash for each channel, and a key for each lease that expires with it.

The hash has the data of the members by their ids; and, in fields whose names are no ids, the epoch,
``e``, the number of the last change, ``n``, and the leases that members depend on, ``l``, each
between spaces. It is one key, so that Redis has all of it or nothing. On a cluster a lease has a
key in the slot of each channel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping

from flask_ws import Lease, Members, Position

from .keys import key_of
from .scripts import Execute, Script, make_script, run

__all__ = ["change", "expire", "find_lost", "read", "renew"]

#: Seconds for which a channel is known after its last change.
IDLE_SECONDS = 3600

#: Numbers changes, and publishes them. In all scripts the first arguments are an epoch for a
#: channel that has none, and the channel.
TELL = """
local function tell(changes)
    redis.call('PEXPIRE', KEYS[1], {known})
    if #changes == 0 then return end
    local epoch = redis.call('HGET', KEYS[1], 'e')
    if not epoch then
        epoch = ARGV[1]
        redis.call('HSET', KEYS[1], 'e', epoch)
    end
    local last = redis.call('HINCRBY', KEYS[1], 'n', #changes)
    redis.call('PEXPIRE', KEYS[1], {known})
    for i, change in ipairs(changes) do
        local number = string.format('%.0f', last - #changes + i)
        redis.call('{command}', ARGV[2], '\\0@' .. epoch .. ' ' .. number .. ' ' .. change)
    end
end
"""

CHANGE = (
    TELL
    + """
local lease, term, first = ARGV[3], ARGV[4], 6 + ARGV[5]
local is_held = redis.call('GET', KEYS[2]) == term
local changes = {{}}
for i = 6, first - 1 do
    if redis.call('HDEL', KEYS[1], ARGV[i]) == 1 then
        changes[#changes + 1] = '-' .. ARGV[i]
    end
end
if is_held and ARGV[first] then
    for i = first, #ARGV, 2 do
        if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
            redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
            changes[#changes + 1] = '+' .. ARGV[i] .. ' ' .. ARGV[i + 1]
        end
    end
    local leases = redis.call('HGET', KEYS[1], 'l') or ' '
    if not string.find(leases, ' ' .. lease .. ' ', 1, true) then
        redis.call('HSET', KEYS[1], 'l', leases .. lease .. ' ')
    end
end
tell(changes)
return is_held and 1 or 0
"""
)

# The keys of leases follow the first, and their names the arguments.
EXPIRE = (
    TELL
    + """
local lost, is_any = {{}}, false
for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then
        lost[ARGV[i + 1]], is_any = true, true
    end
end
if not is_any then return end
local changes = {{}}
for _, member in ipairs(redis.call('HKEYS', KEYS[1])) do
    if lost[string.match(member, '^(.*)%.')] then
        redis.call('HDEL', KEYS[1], member)
        changes[#changes + 1] = '-' .. member
    end
end
local leases = redis.call('HGET', KEYS[1], 'l')
if leases then
    local left = ' '
    for lease in string.gmatch(leases, '[^ ]+') do
        if not lost[lease] then left = left .. lease .. ' ' end
    end
    redis.call('HSET', KEYS[1], 'l', left)
end
tell(changes)
"""
)

RENEW = """
local term = redis.call('GET', KEYS[1])
if term and tonumber(term) > tonumber(ARGV[1]) then return 1 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return term and 1 or 0
"""

#: Returns the key of a lease, by its name.
LeaseKey = Callable[[str], bytes]


def change(
    execute: Execute,
    channel: bytes,
    lease: Lease,
    put: Mapping[str, bytes],
    dropped: Collection[str],
    *,
    lease_key: LeaseKey,
    command: str,
) -> bool:
    """Put and drop members of a channel; ``False`` if the lease is not held.

    :param execute: sends a command.
    :param lease_key: returns the key of a lease.
    :param command: that which publishes.
    """
    pairs = [part for pair in put.items() for part in pair]
    answer = run(
        execute,
        _make(CHANGE, command),
        [key_of(channel, b"p"), lease_key(lease.name)],
        os.urandom(8).hex(),
        channel,
        lease.name,
        lease.term,
        len(dropped),
        *dropped,
        *pairs,
    )
    return bool(answer)


def read(execute: Execute, channel: bytes, *, lease_key: LeaseKey) -> Members:
    """Read the members of a channel.

    :param execute: sends a command.
    :param lease_key: returns the key of a lease.
    """
    answer = execute("HGETALL", key_of(channel, b"p"))
    if not isinstance(answer, dict):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    epoch, number = answer.pop(b"e", b""), answer.pop(b"n", 0)
    leases = set(answer.pop(b"l", b"").decode().split())
    members = {member.decode(): data for member, data in answer.items()}
    lost = find_lost(execute, leases, lease_key=lease_key)
    return Members(
        Position(epoch.decode(), int(number)),
        members,
        frozenset(lost.intersection(member.rpartition(".")[0] for member in members)),
    )


def find_lost(execute: Execute, leases: Collection[str], *, lease_key: LeaseKey) -> set[str]:
    """Return which of these leases nobody holds."""
    names = list(leases)
    if not names:
        return set()
    terms = execute("MGET", *map(lease_key, names))
    return {name for name, term in zip(names, terms, strict=True) if term is None}


def renew(execute: Execute, key: bytes, lease: Lease, seconds: float) -> bool:
    """Hold a lease at one key; ``False`` if it was not held there before.

    :param execute: sends a command.
    """
    milliseconds = max(1, round(seconds * 1000))
    return bool(run(execute, make_script(RENEW), [key], lease.term, milliseconds))


def expire(
    execute: Execute,
    channel: bytes,
    leases: Collection[str] | None,
    *,
    lease_key: LeaseKey,
    command: str,
) -> None:
    """Drop the members of a channel whose leases are lost.

    :param execute: sends a command.
    :param leases: their names; ``None`` for all that members there depend on.
    :param lease_key: returns the key of a lease.
    :param command: that which publishes.
    """
    key = key_of(channel, b"p")
    if leases is None:
        leases = (execute("HGET", key, "l") or b"").decode().split()
    if leases:
        keys = [key, *map(lease_key, leases)]
        run(execute, _make(EXPIRE, command), keys, os.urandom(8).hex(), channel, *leases)


def _make(template: str, command: str) -> Script:
    return make_script(template, known=IDLE_SECONDS * 1000, command=command)
