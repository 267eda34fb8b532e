"""The README's commands, and what it says about this repository."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.request import urlopen

import tomli

from .markdown import ROOT, read_blocks
from .serving import serve

README = ROOT / "README.md"
INSTALL, CHAT, SUITE = (command for block in read_blocks(README) for command in block.commands)


def test_contributors_are_told_the_same_command() -> None:
    assert SUITE in (ROOT / "CONTRIBUTING.md").read_text()


def test_it_begins_with_ten_lines_on_what_it_is() -> None:
    introduction = README.read_text().split("```")[0].strip().splitlines()
    assert len(introduction) <= 12


def test_the_command_serves_a_chat(tmp_path: Path) -> None:
    """Two clients of the page's route see what the first one says."""
    command = CHAT.partition(" --package flask-ws-werkzeug ")[2]
    with serve(command, folder=tmp_path, cwd=ROOT) as served:
        served.await_response()
        with urlopen(f"http://127.0.0.1:{served.port}/", timeout=5) as response:
            assert "chat.js" in response.read().decode()
        with (
            served.connect("/chat/tea", "flask-ws.v1") as ada,
            served.connect("/chat/tea", "flask-ws.v1") as grace,
        ):
            for client in (ada, grace):
                client.send(json.dumps({"type": "subscribe", "id": 1, "channel": "chat:tea"}))
                assert json.loads(client.recv(timeout=5))["type"] == "subscribed"
            said = {"id": "1", "name": "Ada", "text": "Hello!"}
            request = {"type": "publish", "id": 2, "channel": "chat:tea", "data": said}
            ada.send(json.dumps(request))
            for client in (ada, grace):
                while (message := json.loads(client.recv(timeout=5)))["type"] != "message":
                    pass
                assert (message["data"]["name"], message["data"]["text"]) == ("Ada", "Hello!")


def test_badges_are_true() -> None:
    text = README.read_text()
    core = tomli.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]
    minors = [name[-4:] for name in core["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert f"badge/Python-{minors[0]}%20to%20{minors[-1]}-" in text
    (flask,) = (name for name in core["dependencies"] if name.startswith("flask>="))
    assert f"badge/Flask-{flask.removeprefix('flask>=')}%20and%20newer-" in text
    assert f"badge/license-{core['license']}-" in text
    assert tomli.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"]


def test_its_pictures_are_there() -> None:
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', README.read_text())
    assert len(pictures) == 6
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
