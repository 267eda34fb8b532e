"""The members of one channel by keys, and what others are told when they change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..plugin.presence import MemberChange
from .entries import read_entry, write

__all__ = ["Roster"]


class Roster:
    """Who is there in one channel.

    What others are told is about keys: that one is there, that what is known of it has changed,
    or that it has left. Members of one key with equal infos are told once.

    :param channel: the channel's name.
    """

    __slots__ = ("_head", "_infos", "members")

    def __init__(self, channel: str) -> None:
        self._head = f'{{"type":"presence","channel":{write(channel)},"event":'
        #: The data of each member, by its id.
        self.members: dict[str, bytes] = {}
        # The infos of each key, and how many members have them.
        self._infos: dict[str, Counter[str]] = {}

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._infos)

    def apply(self, change: MemberChange) -> list[str]:
        """Change a member.

        :return: what others are told.
        """
        return self._change([change])

    def replace(self, members: Mapping[str, bytes]) -> list[str]:
        """Have these members in place of those before.

        :return: what others are told: who has left, and then who is there or has changed.
        """
        changes = [MemberChange(member) for member in self.members if member not in members]
        changes += [
            MemberChange(member, data)
            for member, data in members.items()
            if self.members.get(member) != data
        ]
        return self._change(changes)

    def _change(self, changes: Iterable[MemberChange]) -> list[str]:
        before: dict[str, list[str]] = {}
        for member, data in changes:
            old, new = _read(self.members.pop(member, None)), _read(data)
            for each in (old, new):
                if each is not None and each[0] not in before:
                    before[each[0]] = self._infos_of(each[0])
            if old is not None:
                self._remove(*old)
            if data is not None:
                self.members[member] = data
            if new is not None:
                key, info = new
                self._infos.setdefault(key, Counter())[info] += 1
        return self._tell(before)

    def _remove(self, key: str, info: str) -> None:
        infos = self._infos[key]
        infos[info] -= 1
        if not infos[info]:
            del infos[info]
            if not infos:
                del self._infos[key]

    def _infos_of(self, key: str) -> list[str]:
        return sorted(self._infos.get(key, ()))

    def _tell(self, before: Mapping[str, list[str]]) -> list[str]:
        told: dict[str, list[str]] = {"leave": [], "join": [], "change": []}
        for key, old in before.items():
            new = self._infos_of(key)
            if not new and old:
                told["leave"].append(f'{self._head}"leave","key":{write(key)}}}')
            elif new != old:
                event = "change" if old else "join"
                infos = ",".join(new)
                told[event].append(f'{self._head}"{event}","key":{write(key)},"infos":[{infos}]}}')
        return [*told["leave"], *told["join"], *told["change"]]

    def state(self) -> str:
        """Return what one who begins to watch is told: all keys, and their infos."""
        return f'{self._head}"state","members":{self.as_json()}}}'

    def as_json(self) -> str:
        """Return the infos of each key, as an object of JSON."""
        keys = ",".join(
            f"{write(key)}:[{','.join(sorted(infos))}]" for key, infos in self._infos.items()
        )
        return f"{{{keys}}}"


def _read(data: bytes | None) -> tuple[str, str] | None:
    return None if data is None else read_entry(data)
