"""``flask ws migrate``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flask_ws.cli import ws as group

HEAD = "from flask_sock import Sock\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, ["migrate", *map(str, arguments)])


def advice(tmp_path: Path, code: str) -> list[str]:
    """What is said of a module, besides its first import."""
    (tmp_path / "app.py").write_text(HEAD + code)
    lines = run(tmp_path / "app.py").output.splitlines()
    return [line.partition(".py:")[2] for line in lines[1:]]


def migrated(tmp_path: Path, code: str) -> str:
    file = tmp_path / "app.py"
    file.write_text(code, encoding="utf-8")
    run("--write", file)
    return file.read_text(encoding="utf-8")


def test_each_place_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(HEAD + "from simple_websocket import ConnectionClosed\n")
    result = run(file)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        f"{file}:1: * from flask_ws import Sock",
        f"{file}:2: * from flask_ws import ConnectionClosed",
    ]
    assert file.read_text().startswith(HEAD)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from flask_sock import Sock\n", "from flask_ws import Sock\n"),
        (
            "from  flask_sock  import (\n    Sock as S,\n)\n",
            "from  flask_ws  import (\n    Sock as S,\n)\n",
        ),
        ("import flask_sock\nflask_sock.Sock()\n", "import flask_ws\nflask_ws.Sock()\n"),
        ("import os, flask_sock as s\n", "import os, flask_ws as s\n"),
        (
            "from simple_websocket import ConnectionClosed as C\n",
            "from flask_ws import ConnectionClosed as C\n",
        ),
        (
            "import flask_sock\n'ü'; print(ws.close_reason, ws.close_message)\n",
            "import flask_ws\n'ü'; print(ws.close_code, ws.close_reason)\n",
        ),
        ("# flask_sock\nimport os\n", "# flask_sock\nimport os\n"),
        ("import flask\nws.close_reason\n", "import flask\nws.close_reason\n"),
    ],
)
def test_what_needs_no_thought_is_written(tmp_path: Path, before: str, after: str) -> None:
    assert migrated(tmp_path, before) == after


def test_what_is_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HEAD)
    result = run("--write", tmp_path)
    assert result.exit_code == 0
    assert "app.py:1: done: from flask_ws import Sock\nNothing is left to do.\n" in result.output


def test_line_ends_and_encodings_stay(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    data = "# coding: latin-1\r\nfrom flask_sock import Sock\r\n# ü\r\n"
    file.write_bytes(data.encode("latin-1"))
    run("--write", file)
    assert file.read_bytes() == data.replace("flask_sock", "flask_ws").encode("latin-1")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "from simple_websocket import Client\n",
            "2: flask-ws has no Client, which simple_websocket has",
        ),
        ("import simple_websocket.ws\n", "2: flask-ws has no simple_websocket.ws"),
        ("import simple_websocket\nsimple_websocket.Server\n", "3: flask-ws has no Server"),
        ("ws.send(7)\n", "2: send() takes str and bytes"),
        ("ws.send({'a': 1})\n", "2: send() takes str and bytes"),
        ("ws.send(len(x))\n", "2: send() takes str and bytes"),
        ("ws.thread.join()\n", "2: thread is missing: no thread receives"),
        ("app.config['SOCK_SERVER_OPTIONS'] = {}\n", "2: SOCK_SERVER_OPTIONS is read still"),
    ],
)
def test_what_needs_a_thought_is_said(tmp_path: Path, code: str, expected: str) -> None:
    assert advice(tmp_path, code)[-1].startswith(expected)


@pytest.mark.parametrize(
    "code",
    [
        "ws.send('a')\nws.send(b'a')\nws.send(f'{a}')\nws.send(text)\nws.send(json.dumps({}))\n",
        "self.thread = 1\nthread.ws\n",
        "from .flask_sock import x\n",
        "error.reason == 1001\nerror.message\n",
    ],
)
def test_the_rest_is_left_alone(tmp_path: Path, code: str) -> None:
    assert advice(tmp_path, code) == []


def test_requirements_are_named(tmp_path: Path) -> None:
    (tmp_path / "requirements-dev.txt").write_text("flask\nflask-sock==0.7\nSimple_WebSocket\n")
    (tmp_path / "pyproject.toml").write_text('dependencies = [\n  "flask-sock>=0.5",\n]\n')
    output = run(tmp_path).output
    assert "requirements-dev.txt:2: flask-ws[…]" in output
    assert "requirements-dev.txt:3: flask-ws[…]" in output
    assert "pyproject.toml:2: flask-ws[…]" in output
    assert output.count("\n") == 3


def test_the_folders_of_others_are_left_out(tmp_path: Path) -> None:
    for folder in (".git", "node_modules", "env"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "app.py").write_text(HEAD)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    result = run(tmp_path)
    assert (result.exit_code, result.output) == (0, "Nothing is left to do.\n")


@pytest.mark.parametrize("data", [b"flask_sock (", b"# coding: nothing\n", b"\xff flask_sock"])
def test_a_file_that_is_no_python_is_passed_over(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.py").write_bytes(data)
    (tmp_path / "good.py").write_text(HEAD)
    output = run(tmp_path).output
    assert "bad.py: " in output
    assert "good.py:1: * from flask_ws import Sock" in output
