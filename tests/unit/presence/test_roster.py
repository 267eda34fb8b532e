"""The members of a channel by keys, and what others are told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from flask_ws import MemberChange
from flask_ws.presence.entries import make_entry
from flask_ws.presence.roster import Roster


def entry(key: str, info: Any = None) -> bytes:
    return make_entry(key, info, json.dumps, 100)


@pytest.fixture
def roster() -> Roster:
    return Roster("room")


def told(texts: Iterable[str]) -> list[tuple[Any, ...]]:
    found = [json.loads(text) for text in texts]
    assert all((each.pop("type"), each.pop("channel")) == ("presence", "room") for each in found)
    return [tuple(each.values()) for each in found]


def test_the_first_of_a_key_joins_and_the_last_leaves(roster: Roster) -> None:
    assert told(roster.apply(MemberChange("a.1", entry("7")))) == [("join", "7", [{}])]
    assert told(roster.apply(MemberChange("a.2", entry("7")))) == []
    assert told(roster.apply(MemberChange("a.1"))) == []
    assert told(roster.apply(MemberChange("a.2"))) == [("leave", "7")]
    assert len(roster) == 0


def test_what_is_known_of_a_key_changes(roster: Roster) -> None:
    roster.apply(MemberChange("a.1", entry("7", 2)))
    assert told(roster.apply(MemberChange("a.2", entry("7", 1)))) == [("change", "7", [1, 2])]
    assert told(roster.apply(MemberChange("a.2", entry("7", 2)))) == [("change", "7", [2])]
    assert told(roster.apply(MemberChange("a.1", entry("8")))) == [("join", "8", [{}])]


def test_dropping_who_is_not_there_tells_nothing(roster: Roster) -> None:
    assert roster.apply(MemberChange("a.1")) == []


def test_what_is_not_from_flask_ws_is_nobody(roster: Roster) -> None:
    assert roster.apply(MemberChange("a.1", b"\xff")) == []
    assert roster.as_json() == "{}"
    assert roster.apply(MemberChange("a.1", entry("7")))
    assert told(roster.apply(MemberChange("a.1", b"\xff"))) == [("leave", "7")]


def test_of_other_members_the_difference_is_told(roster: Roster) -> None:
    members = {"a.1": entry("1"), "a.2": entry("2"), "a.3": entry("3", 1)}
    roster.replace(members)
    now = {"a.2": entry("2"), "a.3": entry("3", 2), "a.4": entry("4"), "a.5": entry("2")}
    assert told(roster.replace(now)) == [("leave", "1"), ("join", "4", [{}]), ("change", "3", [2])]
    assert roster.replace(now) == []


def test_the_state_has_each_key_once(roster: Roster) -> None:
    roster.replace({"a.1": entry('"7"', 1), "a.2": entry('"7"', 1), "b.1": entry("8", [])})
    assert told([roster.state()]) == [("state", {'"7"': [1], "8": [[]]})]
