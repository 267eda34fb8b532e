"""``flask ws connect`` on a terminal: what a person sees who types while messages arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from tests.support.command_line import PATIENCE, Screen, Serve

from flask_ws import Sock, WebSocket

pytestmark = pytest.mark.unix

HINT = "Each line that you type is sent. Ctrl-D closes the connection."
LEFT, UP, CTRL_C, CTRL_D = "\x1b[D", "\x1b[A", "\x03", "\x04"
#: Python in which there is no prompt_toolkit.
WITHOUT = """
import sys
sys.modules["prompt_toolkit"] = None
"""

Start = Callable[..., Screen]


@pytest.fixture(params=["prompt_toolkit", "readline"])
def start(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Start]:
    """Start the command with each of the line editors."""
    screens = []
    environ = {}
    if request.param == "readline":
        pytest.importorskip("readline")
        (tmp_path / "sitecustomize.py").write_text(WITHOUT)
        environ["PYTHONPATH"] = str(tmp_path)

    def start(*arguments: str, **options: Any) -> Screen:
        screen = Screen("connect", *arguments, environ=environ, **options)
        screens.append(screen)
        screen.until(lambda: screen.lines[-1] == ">")
        return screen

    yield start
    for screen in screens:
        screen.close()


#: For what does not depend on the editor.
with_one_editor = pytest.mark.parametrize("start", ["prompt_toolkit"], indirect=True)


@pytest.fixture
def peers(app: Flask, sock: Sock) -> list[WebSocket]:
    """The connections of an echo that a test can also send on."""
    peers: list[WebSocket] = []

    @sock.route("/")
    def echo(ws: WebSocket) -> None:
        peers.append(ws)
        for message in ws:
            ws.send(message)

    return peers


@with_one_editor
def test_lines_are_sent_and_messages_shown(
    serve: Serve, start: Start, peers: list[WebSocket]
) -> None:
    screen = start(serve())
    screen.type("hello\r")
    screen.until(lambda: screen.lines[1:] == [HINT, "> hello", "< hello", ">"])


def test_a_message_leaves_the_typed_line_whole(
    serve: Serve, start: Start, peers: list[WebSocket]
) -> None:
    screen = start(serve())
    screen.type("half a li")
    screen.until(lambda: screen.lines[-1] == "> half a li")
    peers[0].send("news")
    screen.until(lambda: screen.lines[-2:] == ["< news", "> half a li"])
    screen.type("ne\r")
    screen.until(lambda: screen.lines[-3:] == ["> half a line", "< half a line", ">"])


def test_a_typed_line_longer_than_the_terminal_stays_whole(
    serve: Serve, start: Start, peers: list[WebSocket]
) -> None:
    screen = start(serve(), columns=40)
    screen.type("x" * 50)
    typed = ["> " + "x" * 38, "x" * 12]
    screen.until(lambda: screen.lines[-2:] == typed)
    peers[0].send("news")
    screen.until(lambda: screen.lines[-3:] == ["< news", *typed])


def test_a_line_can_be_edited(serve: Serve, start: Start, peers: list[WebSocket]) -> None:
    screen = start(serve())
    screen.type("helo" + LEFT + "l\r")
    screen.until(lambda: screen.lines[-3:] == ["> hello", "< hello", ">"])


@with_one_editor
def test_a_line_can_be_recalled(serve: Serve, start: Start, peers: list[WebSocket]) -> None:
    screen = start(serve())
    screen.type("hello\r")
    screen.until(lambda: screen.lines[-2:] == ["< hello", ">"])
    screen.type(UP + "!\r")
    screen.until(lambda: screen.lines[-3:] == ["> hello!", "< hello!", ">"])


@with_one_editor
def test_messages_are_marked_with_a_colour(
    serve: Serve, start: Start, peers: list[WebSocket]
) -> None:
    screen = start(serve())
    peers[0].send("news")
    screen.until(lambda: screen.lines[-2:] == ["< news", ">"])
    assert screen.colour(len(screen.lines) - 2) == "green"


@with_one_editor
def test_json_is_indented(serve: Serve, start: Start, peers: list[WebSocket]) -> None:
    screen = start(serve())
    peers[0].send('{"name":"ada","rooms":[1]}')
    expected = ["< {", '  "name": "ada",', '  "rooms": [', "    1", "  ]", "}", ">"]
    screen.until(lambda: screen.lines[-7:] == expected)


@pytest.mark.parametrize("key", [CTRL_C, CTRL_D])
def test_a_key_closes_it(serve: Serve, start: Start, peers: list[WebSocket], key: str) -> None:
    screen = start(serve())
    # Until it is noticed: readline's wait for a key begins a moment after the prompt.
    closed = "Closed: 1000 normal closure"
    screen.until(lambda: screen.lines[-1] == closed, meanwhile=lambda: screen.type(key))
    assert screen.wait() == 0


def test_the_servers_end_ends_the_line(app: Flask, sock: Sock, serve: Serve, start: Start) -> None:
    go_on = threading.Event()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        go_on.wait(PATIENCE)
        ws.close(4001, "enough")

    screen = start(serve())
    screen.type("half a li")
    screen.until(lambda: screen.lines[-1] == "> half a li")
    go_on.set()
    screen.until(lambda: screen.lines[-1] == "Closed: 4001 enough")
    assert screen.wait() == 4
