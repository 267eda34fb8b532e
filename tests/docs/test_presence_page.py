"""The page about presence shows what clients are told."""

from __future__ import annotations

import json

from flask_ws import MemberChange
from flask_ws.presence.entries import make_entry
from flask_ws.presence.roster import Roster

from .markdown import ROOT, read_blocks

PAGE = ROOT / "docs" / "presence.md"


def test_the_messages_on_the_page_are_those_that_clients_get() -> None:
    blocks = [block for block in read_blocks(PAGE) if block.language == "json"]
    shown = [json.loads(line) for block in blocks for line in block.code.splitlines()]
    roster = Roster("room:42")
    roster.apply(MemberChange("a.1", entry("7", {"name": "Ada"})))
    told = [roster.state()]
    for change in (
        MemberChange("a.2", entry("8", {"name": "Bob"})),
        MemberChange("a.2", entry("8", {"name": "Bob", "away": True})),
        MemberChange("a.1"),
    ):
        told += roster.apply(change)
    assert shown == [json.loads(text) for text in told]


def entry(key: str, info: object) -> bytes:
    return make_entry(key, info, json.dumps, 1000)
