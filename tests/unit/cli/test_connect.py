"""What the options of ``flask ws connect`` do; and the app itself in place of a server."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask, request
from flask.cli import ScriptInfo
from tests.support.command_line import COMMAND, PATIENCE, Outcome, Serve, Terminal

from flask_ws import Sock, WebSocket
from flask_ws.cli import ws as group


@pytest.fixture
def received(app: Flask, sock: Sock) -> list[str | bytes]:
    """What an echo has received."""
    received: list[str | bytes] = []

    @sock.route("/")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            received.append(message)
            ws.send(message)

    return received


# What is sent


def test_a_message_may_be_an_argument(
    serve: Serve, terminal: Terminal, received: list[str | bytes]
) -> None:
    terminal.type(b"not read")
    outcome = terminal.connect("-x", "one", "--execute", "two", serve())
    assert (received, outcome.out) == (["one", "two"], "one\ntwo\n")


def test_an_argument_may_be_binary(
    serve: Serve, terminal: Terminal, received: list[str | bytes]
) -> None:
    assert terminal.connect("--binary", "-x", "grüße", serve()).out == "grüße"
    assert received == ["grüße".encode()]


def test_a_pipe_is_one_binary_message(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    received: list[str | bytes] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        received.extend(ws)

    data = b"\x00\n\xff\r\n" * 100
    terminal.type(data)
    terminal.end_input()
    terminal.connect("--binary", "--wait", "0", serve())
    assert received == [data]


def test_binary_messages_go_into_a_pipe_as_they_are(serve: Serve, received: object) -> None:
    data = b"\x00\n\xff"
    done = subprocess.run(
        [*COMMAND, "connect", "--binary", serve()],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.stdout == data


def test_an_origin_is_sent(app: Flask, sock: Sock, serve: Serve, terminal: Terminal) -> None:
    app.config["SOCK_ALLOWED_ORIGINS"] = ["https://example.com"]

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(request.headers["Origin"])

    url = serve()
    assert terminal.connect("--origin", "https://example.com", url).out == "https://example.com\n"
    assert terminal.connect("--origin", "https://evil.example", url).code == 1


# What is shown


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], '{"a":[1]}\n'),
        (["--json"], '{\n  "a": [\n    1\n  ]\n}\n'),
        (["--no-json"], '{"a":[1]}\n'),
    ],
)
def test_json_is_indented_if_asked_for(
    serve: Serve, terminal: Terminal, received: object, options: list[str], expected: str
) -> None:
    assert terminal.connect("-x", '{"a":[1]}', *options, serve()).out == expected


@pytest.mark.parametrize("text", ["7", "{", "[1", "hello", "", pytest.param("[" * 5000, id="deep")])
def test_what_is_no_json_stays_as_it_is(
    serve: Serve, terminal: Terminal, received: object, text: str
) -> None:
    terminal.type(text.encode() + b"\n")
    terminal.end_input()
    assert terminal.connect("--json", serve()).out == text + "\n"


# How long it lasts


def test_to_give_up_waiting_is_said(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def slow(ws: WebSocket) -> None:
        assert [*ws] == ["hi"]

    terminal.type(b"hi\n")
    terminal.end_input()
    outcome = terminal.connect("--wait", "0.05", serve())
    assert "No message has come within 0.05 s. --wait SECONDS waits longer.\n" in outcome.err


@pytest.mark.parametrize("wait", ["0", "0.2"])
def test_otherwise_nothing_is_said(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal, wait: str
) -> None:
    """With a message, or where there was to be no waiting."""

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        if wait != "0":
            ws.send("hello")
        assert [*ws] == []

    terminal.end_input()
    assert "No message" not in terminal.connect("--wait", wait, serve()).err


def test_a_server_that_answers_no_ping_is_given_up(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr("flask_ws.connection.sender.Sender.answer_ping", lambda self, payload: None)

    @sock.route("/", ping_interval=None)
    def handler(ws: WebSocket) -> None:
        assert [*ws] == []
        ended.set()

    assert terminal.connect("--ping", "0.1", serve()).code == 106
    assert ended.wait(PATIENCE)


def test_one_that_answers_stays(serve: Serve, terminal: Terminal, received: object) -> None:
    terminal.end_input()
    assert terminal.connect("--ping", "0.05", "--wait", "0.4", serve()).code == 0


# The app itself, without a server

Run = Callable[..., Outcome]


@pytest.fixture
def run(app: Flask, terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``flask ws connect`` for the app."""

    def run(*arguments: str) -> Outcome:
        info = ScriptInfo(create_app=lambda: app)
        with pytest.raises(SystemExit) as caught:
            group.main(["connect", *arguments], prog_name="flask ws", obj=info)
        captured = capsys.readouterr()
        return Outcome(int(str(caught.value.code)), captured.out, captured.err)

    return run


def test_a_path_is_one_of_the_app(
    run: Run, terminal: Terminal, received: list[str | bytes]
) -> None:
    terminal.type(b"hello\n")
    terminal.end_input()
    outcome = run("/")
    assert (outcome.code, outcome.out, received) == (0, "hello\n", ["hello"])
    assert outcome.err == "Connected, compressed.\nClosed: 1000 normal closure\n"


def test_the_options_hold_there_too(app: Flask, sock: Sock, run: Run) -> None:
    @sock.route("/<room>", subprotocols=["v1"])
    def handler(ws: WebSocket, room: str) -> None:
        headers = request.headers
        ws.send_json([room, request.args["a"], headers["X-A"], headers["Origin"], ws.subprotocol])

    arguments = ["-H", "X-A: 1", "--origin", "http://localhost", "--subprotocol", "v1", "-i"]
    outcome = run(*arguments, "/lobby?a=b")
    assert outcome.out == '["lobby", "b", "1", "http://localhost", "v1"]\n'
    assert outcome.err.startswith("HTTP/1.1 101 ")
    assert "\nConnected, subprotocol v1, compressed.\n" in outcome.err


def test_a_refusal_is_shown_there_too(app: Flask, sock: Sock, run: Run) -> None:
    outcome = run("-i", "/nowhere")
    assert outcome.code == 1
    assert outcome.err.startswith("HTTP/1.1 404 ")
    assert "the handshake was refused: 404 not found\n" in outcome.err.lower()
    assert "flask ws routes" in outcome.err


def test_a_handlers_exception_is_logged_and_a_1011(
    app: Flask, sock: Sock, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise LookupError("the handler's own")

    assert run("/").code == 111
    assert "the handler's own" in caplog.text


def test_a_handler_that_does_not_end_is_told_of(app: Flask, sock: Sock, run: Run) -> None:
    go_on = threading.Event()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert [*ws] == [""]
        go_on.wait(PATIENCE)

    try:
        outcome = run("-x", "", "--wait", "0", "--timeout", "0.2", "/")
    finally:
        go_on.set()
    assert "The handler has not returned" in outcome.err


def test_without_an_app_it_says_what_may_be_meant(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLASK_APP", raising=False)
    outcome = terminal.connect("/chat")
    assert outcome.code == 1
    assert "flask --app NAME ws connect /chat" in outcome.err
    assert "did you mean ws://127.0.0.1:5000/chat?" in outcome.err


APP = """
from flask import Flask
from flask_ws import Sock

app = Flask(__name__)

@Sock(app).route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""


def test_the_app_is_that_of_flasks_command_line(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [*COMMAND, "connect", "/echo"],
        input="hello\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "FLASK_APP": "app", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
