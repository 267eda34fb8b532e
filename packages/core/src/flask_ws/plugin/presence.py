"""The types of a broker's presence: leases, members, and their changes."""

from __future__ import annotations

from typing import NamedTuple

from .history import Position

__all__ = ["Lease", "MemberChange", "Members"]


class Lease(NamedTuple):
    """What a process holds as long as it lives and reaches the broker: its members depend on it."""

    #: Names the process: text of ASCII without spaces, with the app's prefix.
    name: str
    #: What the process asks for with a lower term is out of date, and is not done.
    term: int


class Members(NamedTuple):
    """The members of a channel, as a broker has them."""

    #: The position after the last change.
    position: Position
    #: The data of each, by its id.
    members: dict[str, bytes]
    #: The names of the leases that some of them depend on and that nobody holds any more.
    lost: frozenset[str] = frozenset()


class MemberChange(NamedTuple):
    """One change of a channel's members, and the payload that it is published as."""

    #: The member's id: the name of its lease, a dot, and a number.
    member: str
    #: What is known of it; ``None`` if it has left.
    data: bytes | None = None

    def pack(self) -> bytes:
        """Return what is published: ``+``, the id, a space and the data; or ``-`` and the id."""
        if self.data is None:
            return b"-" + self.member.encode()
        return b"+%b %b" % (self.member.encode(), self.data)

    @classmethod
    def unpack(cls, payload: bytes) -> MemberChange | None:
        """Read what was published; ``None`` if that is no change."""
        head, _, data = payload.partition(b" ")
        member = head[1:].decode("ascii", "replace")
        if head[:1] == b"+":
            return cls(member, data)
        return cls(member) if head[:1] == b"-" else None


def lease_of(member: str) -> str:
    """Return the name of the lease that a member depends on."""
    return member.rpartition(".")[0]
