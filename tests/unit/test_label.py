"""Labels: who a connection is, in logs."""

from __future__ import annotations

import logging

import pytest

from flask_ws.label import Label

logger = logging.getLogger("flask_ws")


def test_a_label_reads_as_a_line_of_the_log_begins() -> None:
    label = Label.make("192.0.2.1", "/feed", "feed")
    assert label == f"WebSocket {label.id} 192.0.2.1 /feed"


def test_no_two_connections_have_the_same_id() -> None:
    assert len({Label.make("-", "/", "feed").id for _ in range(1000)}) == 1000


def test_a_line_about_a_connection_has_its_parts_as_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    label = Label.make("192.0.2.1", "/feed", "blueprint.feed")
    logger.warning("%s: %d bytes", label, 7)
    (record,) = caplog.records
    found = {name: value for name, value in vars(record).items() if name.startswith("ws_")}
    assert found == {
        "ws_id": label.id,
        "ws_address": "192.0.2.1",
        "ws_path": "/feed",
        "ws_endpoint": "blueprint.feed",
    }


@pytest.mark.parametrize("arguments", [(), ("text",), ({"key": 1},)])
def test_other_lines_are_as_they_were(
    caplog: pytest.LogCaptureFixture, arguments: tuple[object, ...]
) -> None:
    logger.warning("a line" + " %s" * len(arguments), *arguments)
    (record,) = caplog.records
    assert not [name for name in vars(record) if name.startswith("ws_")]
