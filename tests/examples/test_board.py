"""The board: who sees whose pen, and what was drawn before."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from examples.board.app import app

from flask_ws.testing import ClientWebSocket, connect

LINE = [[1, 2], [30, 40]]


def receive(ws: ClientWebSocket, key: str) -> Any:
    """The next thing of this kind."""
    while key not in (message := ws.receive_json()):
        pass
    return message


def test_a_line_is_seen_by_others_and_by_those_who_come_later() -> None:
    with connect(app, "/board") as ada, connect(app, "/board") as grace:
        who = receive(ada, "you")["you"]
        ada.send_json(LINE)
        assert receive(grace, "line") == {"by": who, "line": LINE}
        with connect(app, "/board") as later:
            assert receive(later, "line") == {"by": who, "line": LINE}


def test_a_pen_is_seen_by_others_until_it_leaves() -> None:
    with connect(app, "/board") as grace:
        me = receive(grace, "you")["you"]
        with connect(app, "/board") as ada:
            who = receive(ada, "you")["you"]
            assert receive(grace, "members")["members"].keys() == {me}
            assert receive(grace, "key")["key"] == who
            ada.send_json([[5, 6]])
            assert receive(grace, "pen") == {"by": who, "pen": [5, 6]}
        told = receive(grace, "key")
        assert (told["event"], told["key"]) == ("leave", who)


@pytest.mark.parametrize("message", ["", "[]", "7", "[[1]]", "[[1, 2000]]", '[["a", "b"]]', "{}"])
def test_what_is_no_line_is_answered_with_1008(message: str) -> None:
    with connect(app, "/board") as ws:
        ws.send(message)
        assert not any("pen" in str(other) for other in itertools.islice(ws, 10_000))
        assert ws.close_code == 1008
