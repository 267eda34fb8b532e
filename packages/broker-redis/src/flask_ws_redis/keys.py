"""Keys of what belongs to a channel: in its slot of a cluster, and no other channel's."""

from __future__ import annotations

import functools
from binascii import crc_hqx

__all__ = ["find_slot", "find_tag", "key_of", "lease_key"]

SLOTS = 2**14


@functools.lru_cache(2048)
def key_of(channel: bytes, kind: bytes) -> bytes:
    """Return the key of something that belongs to a channel.

    A slot is found by the first part of a name in braces that is not empty, or else by all of it.

    :param kind: what that is, in a letter.
    """
    if _find_braced(channel):
        return b"%b:%b1" % (channel, kind)
    if b"}" not in channel:
        return b"{%b}:%b2" % (channel, kind)
    # No part of it can be the tag.
    quoted = channel.replace(b"%", b"%25").replace(b"{", b"%7B")
    return b"%b{%b}:%b3" % (quoted, find_tag(find_slot(channel)), kind)


def find_slot(channel: bytes) -> int:
    """Return the slot of a channel."""
    return crc_hqx(_find_braced(channel) or channel, 0) % SLOTS


def _find_braced(channel: bytes) -> bytes:
    """Return what its slot is found by, if that is in braces."""
    _, _, rest = channel.partition(b"{")
    tag, closing, _ = rest.partition(b"}")
    return tag if closing else b""


@functools.lru_cache(SLOTS)
def find_tag(slot: int) -> bytes:
    """Find a tag of a slot."""
    number = 0
    while crc_hqx(b"%d" % number, 0) % SLOTS != slot:
        number += 1
    return b"%d" % number


def lease_key(slot: int, name: str) -> bytes:
    """Return the key of a lease in a slot."""
    quoted = name.replace("{", "%7B").encode()
    return b"%b{%b}" % (quoted, find_tag(slot))
