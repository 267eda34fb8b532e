"""Pages that make up a project: their files are written, and their commands run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from .markdown import PROJECTS, name, read_blocks, read_start_commands
from .serving import BIN, Served, replace_port, serve

CHAT, TESTING = PROJECTS

each_project = pytest.mark.parametrize("page", PROJECTS, ids=name)


def write_project(page: Path, folder: Path) -> None:
    """Write the files of a page; what belongs at the end of one is put there."""
    for block in read_blocks(page):
        if block.language in ("console", "text"):
            continue
        assert block.caption is not None, block
        file, _, rest = block.caption.partition(", ")
        assert rest in ("", "at the end"), block
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() + "\n\n" if rest else ""
        assert rest or not path.exists(), block
        path.write_text(before + block.code)


def run(command: str, folder: Path, **options: str) -> str:
    program, *arguments = command.split()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable if program == "python" else BIN / program, *arguments],
        cwd=folder,
        env={**environ, **options},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def find_commands(page: Path, pattern: str) -> list[str]:
    return [
        command
        for block in read_blocks(page)
        for command in block.commands
        if re.match(pattern, command)
    ]


@each_project
def test_the_tests_of_the_page_pass(page: Path, tmp_path: Path) -> None:
    write_project(page, tmp_path)
    commands = find_commands(page, r"pytest|python -m unittest")
    assert commands
    for command in commands:
        output = run(command, tmp_path, PYTHONDONTWRITEBYTECODE="1")
        number = re.search(r"(\d+) passed|Ran (\d+) test", output)
        assert number is not None, output
        assert int(number[1] or number[2]) >= 2
        assert "warning" not in output.lower(), output


FAILING = """
from app import app
from flask_ws.testing import connect

def test():
    with connect(app, "/echo") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
        assert ws.receive(timeout=0.1) is not None
"""


def test_a_failed_tests_report_is_as_the_page_shows_it(tmp_path: Path) -> None:
    def lines(text: str) -> list[str]:
        found = re.findall(r"^-+ (WebSocket .+?) -+$|^ +[\d.]+ s  (.+)$", text, re.MULTILINE)
        return [heading or entry for heading, entry in found]

    (shown,) = [block.code for block in read_blocks(TESTING) if block.language == "text"]
    write_project(TESTING, tmp_path)
    (tmp_path / "test_failing.py").write_text(FAILING)
    command = [str(BIN / "pytest"), "test_failing.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert lines(done.stdout) == lines(shown) != []


@pytest.fixture(scope="module", params=read_start_commands(CHAT))
def chat(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The chat as the page starts it, first to develop and then on the server."""
    folder = tmp_path_factory.mktemp("chat")
    write_project(CHAT, folder)
    with serve(request.param, folder=folder) as served:
        served.await_response()
        yield served


def test_there_is_a_chat_to_develop_and_one_on_the_server() -> None:
    assert [command.split()[0] for command in read_start_commands(CHAT)] == ["flask", "gunicorn"]


def test_two_people_chat(chat: Served) -> None:
    with urlopen(f"http://127.0.0.1:{chat.port}/", timeout=5) as response:
        assert "/chat/${room}" in response.read().decode()
    with chat.connect("/chat/lobby") as ada:
        assert json.loads(ada.recv(timeout=5)) == {"people": 1}
        with chat.connect("/chat/lobby") as grace:
            for client in (ada, grace):
                assert json.loads(client.recv(timeout=5)) == {"people": 2}
            ada.send(json.dumps({"name": "Ada", "text": "Hello!"}))
            for client in (ada, grace):
                assert json.loads(client.recv(timeout=5)) == {"name": "Ada", "text": "Hello!"}
        assert json.loads(ada.recv(timeout=5)) == {"people": 1}


def test_the_client_in_the_terminal_shows_what_the_page_says(chat: Served, tmp_path: Path) -> None:
    (command,) = find_commands(CHAT, "flask ws connect")
    command = command.replace("wss://example.com", replace_port("ws://127.0.0.1:5000", chat.port))
    assert '{"people": 1}' in run(f"{command} --wait 0.5", tmp_path)
