"""The README's commands, run as a newcomer does: in rooms that have next to nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest
from tests.docs.markdown import read_blocks
from tests.support.server import find_port, wait_until
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from .environments import PRIVATE, ROOT, UNREACHABLE, Environment, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

INSTALL, CHAT, SUITE = (
    command for block in read_blocks(ROOT / "README.md") for command in block.commands
)
#: Beside uv itself: Flask and what it needs, wsproto, pluggy, and two of ours.
MOST_PACKAGES = 15
START_SECONDS = 240
SYSTEM = Path("/usr/bin")


@dataclass(frozen=True)
class Room:
    """A home, a path and a clone of the repository, which are a newcomer's."""

    folder: Path
    path: tuple[Path, ...]
    more: dict[str, str] = field(default_factory=dict)

    @property
    def clone(self) -> Path:
        return self.folder / "clone"

    @property
    def environ(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith((*PRIVATE, "PYTEST_", "PYENV_", "WERKZEUG_")) and key != "UV"
        }
        home = Path.home()
        return {
            # What was downloaded once need not be again.
            "UV_CACHE_DIR": str(home / ".cache/uv"),
            "PIP_CACHE_DIR": str(home / ".cache/pip"),
            **kept,
            "UV_PYTHON_DOWNLOADS": "never",
            "HOME": str(self.folder),
            "PATH": os.pathsep.join(map(str, self.path)),
            "PYTHONUNBUFFERED": "1",
            **self.more,
        }

    def start(self, command: str, **variables: str) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=self.clone,
                env=self.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, command: str, **variables: str) -> str:
        process = self.start(command, **variables)
        try:
            status = process.wait(START_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.check(status)
        return self.log.read_text()

    def check(self, status: int | None) -> None:
        """Fail if a command has ended badly; skip where that is for want of a registry."""
        if status:
            text = self.log.read_text(errors="replace")
            if UNREACHABLE.search(text) or "No matching distribution found for uv" in text:
                pytest.skip("no package registry can be reached")
            pytest.fail(text[-10_000:], pytrace=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"


def find_uv() -> Path:
    # Of a command that uv runs it tells where it is; what is found on a path may be a shim.
    found = os.environ.get("UV") or shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed")
    return Path(found)


def make_debian(folder: Path) -> Room:
    """Debian's own Python, which takes no packages (PEP 668), with pip; for one who is not root."""
    pip = SYSTEM / "pip"
    if not pip.exists() or not list(Path("/usr/lib").glob("python3*/EXTERNALLY-MANAGED")):
        pytest.skip("not a Debian with Python and pip")
    if (SYSTEM / "uv").exists():
        pytest.skip("uv is where Debian's programs are")
    return Room(folder, (SYSTEM, Path("/bin")), {"PIP_USER": "1"})


def make_active(folder: Path) -> Room:
    """A virtual environment with pip, which is active."""
    uv("venv", "--quiet", "--no-project", "--seed", "--python", sys.executable, folder / "env")
    environment = Environment(folder / "env")
    path = (environment.bin_folder, SYSTEM, Path("/bin"))
    return Room(folder, path, {"VIRTUAL_ENV": str(environment.folder)})


def make_uv_alone(folder: Path) -> Room:
    """uv and a Python without pip."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "uv").symlink_to(find_uv())
    python = Path(getattr(sys, "_base_executable", sys.executable))
    (programs / "python3").symlink_to(python.resolve())
    return Room(folder, (programs,))


ROOMS = {"debian": make_debian, "venv": make_active, "uv alone": make_uv_alone}


@pytest.fixture(params=ROOMS)
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    room = ROOMS[request.param](tmp_path)
    room.clone.mkdir()
    for name in ("packages", "examples"):
        shutil.copytree(
            ROOT / name, room.clone / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, room.clone)
    yield room
    shutil.rmtree(room.clone)


def test_one_command_serves_the_chat_in_every_room(room: Room) -> None:
    """With a dozen packages, and without a warning."""
    port = find_port()
    process = room.start(CHAT, FLASK_RUN_PORT=str(port))

    def answers() -> bool:
        room.check(process.poll())
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
            return b"chat.js" in response.read()
        return False

    try:
        wait_until(answers, timeout=START_SECONDS, every=0.1)
        url = f"ws://127.0.0.1:{port}/chat/tea"
        with connect(url, subprotocols=[Subprotocol("flask-ws.v1")], proxy=None) as client:
            client.send(json.dumps({"type": "subscribe", "id": 1, "channel": "chat:tea"}))
            assert json.loads(client.recv(timeout=5))["type"] == "subscribed"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait(10)
    log = room.log.read_text()
    installed = re.search(r"Installed (\d+) packages?", log)
    assert installed is not None, log
    assert int(installed[1]) <= MOST_PACKAGES
    assert "VIRTUAL_ENV" not in log


def test_the_other_command_is_the_one_that_ci_runs() -> None:
    """Where uv comes from is the same as for the first, and CI begins with nothing installed."""
    before, found, suite = SUITE.partition("uv run ")
    assert CHAT.startswith(before + found)
    assert suite == "pytest -n auto"
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert any(f"{found}{suite}" in line and not line.startswith("say") for line in lines)


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, timeout=60, capture_output=True
    )


@pytest.mark.parametrize("room", ["venv"], indirect=True)
def test_it_can_be_installed_from_the_repository(room: Room) -> None:
    """The command as it is written; git finds the repository here."""
    if shutil.which("git", path="/usr/bin:/bin") is None:
        pytest.skip("git is not installed")
    git(room.clone, "init", "--quiet")
    git(room.clone, "add", ".")
    git(room.clone, "commit", "--quiet", "--message", "All of it")
    room.run(
        INSTALL,
        GIT_CONFIG_COUNT="1",
        GIT_CONFIG_KEY_0=f"url.{room.clone.as_uri()}.insteadOf",
        GIT_CONFIG_VALUE_0="https://github.com/flask-ws/flask-ws",
    )
    output = room.run("flask ws servers")
    assert "gunicorn" in output
    assert re.search(r"gunicorn +installed|gunicorn.*\d", output), output
