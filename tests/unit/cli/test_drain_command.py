"""``flask ws drain``: a running server says goodbye, and the command waits for that."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask, abort, request
from tests.support.command_line import Serve

from flask_ws import Sock, WebSocket, WebSocketView
from flask_ws.cli import ws as group
from flask_ws.testing import connect


class Feed(WebSocketView):
    """Takes whatever comes."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        pass


@pytest.fixture
def url(app: Flask, sock: Sock, serve: Serve) -> str:
    """Where a process is drained that has the authorisation to."""
    sock.route("/feed")(Feed)

    @app.post("/drain")
    def drain() -> dict[str, Any]:
        if request.headers.get("Authorization") != "Bearer secret":
            abort(403)
        sock.drain()
        return sock.stats().as_dict()

    return f"http{serve()[2:]}/drain"


@pytest.fixture
def several(app: Flask, sock: Sock, serve: Serve) -> tuple[str, list[tuple[int, int]]]:
    """Where processes answer in turn, and their numbers, with their connections."""
    answers: list[tuple[int, int]] = []

    @app.post("/drain")
    def drain() -> dict[str, Any]:
        pid, connections = answers.pop(0) if len(answers) > 1 else answers[0]
        draining = {"pid": pid, "connections": connections, "draining": True}
        return {**sock.stats().as_dict(), **draining}

    return f"http{serve()[2:]}/drain", answers


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_ws.cli.drain.PAUSE", 0.01)


def invoke(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(group, ["drain", url, *arguments])


def test_it_waits_until_all_clients_are_gone(app: Flask, url: str) -> None:
    with connect(app, "/feed") as ws:
        result = invoke(url, "-H", "Authorization: Bearer secret")
        assert list(ws) == []
        assert ws.close_code == 1001
    assert result.exit_code == 0
    assert result.output.startswith("0 connections left after")


def test_it_fails_where_it_is_not_authorised(url: str) -> None:
    result = invoke(url)
    assert result.exit_code == 1
    assert "403" in result.output


def test_it_waits_for_every_process(several: tuple[str, list[tuple[int, int]]]) -> None:
    url, answers = several
    answers += [(1, 5), (1, 3), (2, 7), (1, 0), (2, 4), (2, 0)]
    result = invoke(url, "--processes", "2")
    assert (result.exit_code, len(answers)) == (0, 1)


def test_it_says_what_is_left_when_the_time_is_up(
    several: tuple[str, list[tuple[int, int]]],
) -> None:
    url, answers = several
    answers += [(1, 5)]
    result = invoke(url, "--timeout", "0.05")
    assert result.exit_code == 1
    assert result.output.startswith("5 connections left after 0.")


def test_it_says_that_a_process_was_not_reached(
    several: tuple[str, list[tuple[int, int]]],
) -> None:
    url, answers = several
    answers += [(1, 0)]
    result = invoke(url, "--processes", "2")
    assert result.exit_code == 1
    assert "Only 1 of 2 processes have answered." in result.output


def test_it_says_that_a_view_does_not_drain(app: Flask, sock: Sock, serve: Serve) -> None:
    app.add_url_rule("/stats", view_func=lambda: sock.stats().as_dict(), methods=["POST"])
    result = invoke(f"http{serve()[2:]}/stats")
    assert result.exit_code == 1
    assert "sock.drain()" in result.output
