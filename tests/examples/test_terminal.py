"""The terminal: a command at the other end, for this machine alone."""

from __future__ import annotations

import struct

import psutil
import pytest
from examples.terminal.app import app
from tests.support.server import wait_until

from flask_ws.testing import ClientWebSocket, HandshakeRefused, connect

BASE = "http://127.0.0.1:5000"


@pytest.fixture
def command(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "COMMAND", request.param)


def read_until(ws: ClientWebSocket, end: bytes) -> bytes:
    output = b""
    while not output.endswith(end):
        piece = ws.receive()
        assert isinstance(piece, bytes)
        output += piece
    return output


@pytest.mark.parametrize("command", ["stty size"], indirect=True)
def test_a_command_has_a_terminal_of_the_size_of_the_page(command: None) -> None:
    with connect(app, "/terminal?rows=12&columns=34", base_url=BASE) as ws:
        assert b"".join(bytes(piece) for piece in ws if isinstance(piece, bytes)) == b"12 34\r\n"
        assert (ws.close_code, ws.close_reason) == (1000, "The command has ended.")


RESIZED = "sh -c 'trap \"stty size; exit\" WINCH; echo ready; while :; do sleep 0.02; done'"


@pytest.mark.parametrize("command", [RESIZED], indirect=True)
def test_a_command_is_told_when_the_page_has_another_size(command: None) -> None:
    with connect(app, "/terminal?rows=12&columns=34", base_url=BASE) as ws:
        read_until(ws, b"ready\r\n")
        ws.send(struct.pack("!HH", 56, 78))
        read_until(ws, b"56 78\r\n")


@pytest.mark.parametrize("command", ["cat"], indirect=True)
def test_keys_reach_the_command(command: None) -> None:
    with connect(app, "/terminal", base_url=BASE) as ws:
        ws.send("h\u00e9\r")
        # Once by the terminal, once by cat.
        read_until(ws, "h\u00e9\r\nh\u00e9\r\n".encode())


@pytest.mark.parametrize("command", ["sh -c 'echo $$; read line'"], indirect=True)
def test_ctrl_c_interrupts_the_command(command: None) -> None:
    with connect(app, "/terminal", base_url=BASE) as ws:
        read_until(ws, b"\r\n")
        ws.send("\x03")
        assert list(ws) in ([], [b"^C"])
        assert ws.close_reason == "The command has ended."


@pytest.mark.parametrize("command", ["sh -c 'echo $$; read line'"], indirect=True)
def test_the_command_ends_with_the_connection(command: None) -> None:
    with connect(app, "/terminal", base_url=BASE) as ws:
        pid = int(read_until(ws, b"\r\n"))
        assert psutil.pid_exists(pid)
    wait_until(lambda: not psutil.pid_exists(pid))


@pytest.mark.parametrize(
    ("address", "host"),
    [("192.0.2.1", "127.0.0.1:5000"), ("127.0.0.1", "rebound.example:5000"), ("", "localhost:1")],
)
def test_nobody_else_is_served(address: str, host: str) -> None:
    """Neither from another machine, nor by a name that somebody else has pointed here."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = address
    assert client.get("/", base_url=f"http://{host}").status_code == 403
    with (
        pytest.raises(HandshakeRefused) as caught,
        connect(client, "/terminal", base_url=f"http://{host}"),
    ):
        pass
    assert caught.value.response.status_code == 403


def test_the_page_is_served_to_this_machine() -> None:
    assert "/bin/" in app.test_client().get("/", base_url=BASE).text
