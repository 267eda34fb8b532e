"""Who is there, on each broker's real server: processes, without servers or clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.presence import Person
from tests.support.waiting import until

from flask_ws.channels.channels import Channels
from flask_ws.channels.opening import close_brokers
from flask_ws.presence.entries import make_entry
from flask_ws.testing.proxy import Proxy

__all__ = ["Member", "PresenceOnServer", "end_processes"]

#: The shortest lease that there may be, in seconds.
LEASE = 1.0


class Member:
    """A process, and its part in the tests.

    :param url: of the broker.
    :param grace: seconds for which members stay.
    :param lease: seconds for which they outlive it.
    """

    def __init__(self, url: str, *, grace: float = 0, lease: float = LEASE) -> None:
        self.channels = Channels(
            {
                "SOCK_BROKER_URL": url,
                "SOCK_PRESENCE_GRACE": grace,
                "SOCK_PRESENCE_LEASE": lease,
            }
        )

    def join(self, channel: str, key: str, info: Any = None) -> Person:
        person = Person(key, info)
        data = make_entry(key, info, json.dumps, 1000)
        self.channels.attendance.join(person, channel, data, limit=9)  # type: ignore[arg-type]
        return person

    def end(self, person: Person) -> None:
        person.connected = False
        self.channels.forget(person)  # type: ignore[arg-type]

    def watch(self, channel: str) -> Person:
        person = Person()
        self.channels.watch(person, channel, limit=9)  # type: ignore[arg-type]
        return person

    def read(self, channel: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.channels.attendance.read(channel))
        return found

    def kill(self) -> None:
        """Let nothing more be heard of it."""
        self.channels.attendance.open().keeper._is_closed = True


@pytest.fixture
def end_processes() -> Iterator[None]:
    yield
    close_brokers()


@pytest.mark.usefixtures("end_processes")
class PresenceOnServer:
    """What holds on each broker's real server; a subclass has the fixture ``url``."""

    def test_members_are_there_for_all_processes(self, url: str) -> None:
        one, other = Member(url, lease=15), Member(url, lease=15)
        watchers = [one.watch("room"), other.watch("room")]
        person = one.join("room", "7", {"name": "Ada"})
        other.join("room", "8")
        assert one.read("room") == other.read("room") == {"7": [{"name": "Ada"}], "8": [{}]}
        one.end(person)
        until(lambda: one.read("room") == {"8": [{}]})
        for watcher in watchers:
            until(lambda: len(watcher.got) == 4)  # noqa: B023
            assert watcher.take() == [("state", {}), ("join", "7"), ("join", "8"), ("leave", "7")]

    def test_members_of_a_killed_process_leave_once(self, url: str) -> None:
        one, other = Member(url), Member(url)
        watchers = [other.watch("dying") for _ in range(2)]
        for key in ("7", "8"):
            one.join("dying", key)
        other.join("dying", "9")
        one.kill()
        until(lambda: other.read("dying") == {"9": [{}]})
        for watcher in watchers:
            until(lambda: len(watcher.got) == 6)  # noqa: B023
            told = watcher.take()
            assert sorted(told[4:]) == [("leave", "7"), ("leave", "8")]

    def test_a_process_that_was_cut_off_comes_back_with_its_members(
        self, port: int, url_at: Any
    ) -> None:
        with Proxy(("127.0.0.1", port)) as proxy:
            one, other = Member(url_at(proxy.port)), Member(url_at(port))
            watcher = other.watch("cut")
            mine = one.watch("cut")
            one.join("cut", "7")
            proxy.cut()
            until(lambda: other.read("cut") == {})
            until(lambda: len(watcher.got) == 3)
            other.join("cut", "8")
            one.join("cut", "9")
            proxy.restore()
            until(lambda: len(watcher.got) == 6)
            assert other.read("cut") == {key: [{}] for key in "789"}
            told = watcher.take()
            assert told[:4] == [("state", {}), ("join", "7"), ("leave", "7"), ("join", "8")]
            assert sorted(told[4:]) == [("join", "7"), ("join", "9")]
            until(lambda: _keys(mine) == {"7", "8", "9"})
            close_brokers()


def _keys(watcher: Person) -> set[str]:
    """Return who is there, as far as somebody was told."""
    keys: set[str] = set()
    for event in watcher.got:
        if event["event"] == "state":
            keys = set(event["members"])
        elif event["event"] == "leave":
            keys.remove(event["key"])
        else:
            keys.add(event["key"])
    return keys
