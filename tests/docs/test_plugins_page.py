"""The page for authors of plugins: its steps run as written, and it leaves nothing out."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flask_ws import ServerSocket
from flask_ws.plugin import hookspecs
from flask_ws.testing import ServerSuite

from .markdown import ROOT, Block, read_blocks

PAGE = ROOT / "docs" / "plugins.md"
TEXT = PAGE.read_text()
BLOCKS = read_blocks(PAGE)
UNIT_TESTS = "\n".join(path.read_text() for path in ROOT.glob("tests/unit/**/test_*.py"))

FIELDS = [field.name for field in dataclasses.fields(ServerSocket)]
HOOKS = [name for name in vars(hookspecs) if name.startswith("flask_ws_")]


# Nothing is left out


@pytest.mark.parametrize("name", [*FIELDS, *HOOKS])
def test_it_has_a_section(name: str) -> None:
    assert re.search(rf"^### `{name}`$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("name", FIELDS)
def test_the_field_has_a_test(name: str) -> None:
    assert re.search(rf"^def test_field_{name}_\w+\(", UNIT_TESTS, re.MULTILINE)


@pytest.mark.parametrize("name", HOOKS)
def test_the_hook_has_a_test(name: str) -> None:
    """One with an implementation of it."""
    assert re.search(rf"^ *def {name}\(", UNIT_TESTS, re.MULTILINE)


@pytest.mark.parametrize("name", HOOKS)
def test_each_argument_of_a_hook_is_in_its_section(name: str) -> None:
    section = re.split(r"^##+ ", TEXT.split(f"### `{name}`\n")[1], flags=re.MULTILINE)[0]
    for argument in getattr(hookspecs, name).__annotations__:
        assert argument == "return" or f"`{argument}`" in section


def test_every_file_that_is_listed_is_there() -> None:
    listed = next(block for block in BLOCKS if block.language == "text").code.split()
    written = {block.caption for block in BLOCKS} | {"src/flask_ws_wsgiref/py.typed"}
    assert set(listed) <= written


def test_what_is_quoted_is_there() -> None:
    quotes = [block for block in BLOCKS if (block.caption or "").startswith("from ")]
    assert quotes
    for block in quotes:
        assert block.caption is not None
        assert block.code.strip() in (ROOT / block.caption.removeprefix("from ")).read_text()


def test_what_is_left_out_as_an_example_is_a_test() -> None:
    (block,) = (block for block in BLOCKS if (block.caption or "").startswith("in "))
    names = re.findall(r'"(test_\w+)', block.code)
    assert names
    assert all(hasattr(ServerSuite, name) for name in names)


# The walk

#: Blocks of other files, or parts of one, that are not written.
QUOTED = ("from ", "in ")


class Walk:
    """The page, followed in a folder."""

    def __init__(self, folder: Path, index: dict[str, str]) -> None:
        self.folder = folder
        unwanted = ("PYTEST_", "COV", "VIRTUAL_ENV", "PYTHONPATH", "UV_", "FLASK_")
        environ = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
        self.environ = environ | {
            # The first activates the second, which is there from then on.
            "PATH": f"{folder}/.venv/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
            **index,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            # Lines are not cut where a terminal ends.
            "COLUMNS": "300",
            # What differs from server to server; the example plugins run all of the suite.
            "PYTEST_ADDOPTS": "-k 'Contract or Closing or says_goodbye'",
        }

    def follow(self, block: Block) -> None:
        if block.language == "console":
            self.run(block)
        elif block.language != "text" and not (block.caption or "").startswith(QUOTED):
            assert block.caption is not None
            path = self.folder / block.caption
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)

    def run(self, block: Block) -> None:
        lines = block.code.splitlines()
        commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        expected = [line for line in lines if not line.startswith("$ ")]
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(commands)],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        # Columns are as wide as what is in them.
        output = re.sub(r" +", " ", done.stdout)
        for line in expected:
            assert line in output, done.stdout
        fails = any(line.startswith("FAILED") for line in expected)
        assert bool(done.returncode) == fails, done.stdout


@pytest.fixture
def index(tmp_path: Path) -> dict[str, str]:
    """For pip: of flask-ws the one that is here, whatever a registry may have."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    core = tmp_path / "core"
    # Into which other tests' processes write meanwhile.
    bytecode = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "packages" / "core", core, ignore=bytecode)
    project = (core / "pyproject.toml").read_text()
    # Of a version that no registry has.
    project, number = re.subn(
        r'^version = "(.+)"$', r'version = "\1+here"', project, flags=re.MULTILINE
    )
    assert number == 1
    (core / "pyproject.toml").write_text(project)
    subprocess.run(
        [uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "wheels", core],
        check=True,
        timeout=120,
    )
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"flask-ws=={wheel.name.split('-')[1]}\n")
    return {"PIP_FIND_LINKS": str(wheel.parent), "PIP_CONSTRAINT": str(constraints)}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_walk_leads_from_an_empty_folder_to_a_package(
    tmp_path: Path, index: dict[str, str]
) -> None:
    folder = tmp_path / "flask-ws-wsgiref"
    folder.mkdir()
    walk = Walk(folder, index)
    for block in BLOCKS:
        walk.follow(block)
    built = sorted(path.name for path in (folder / "dist").iterdir())
    assert built == ["flask_ws_wsgiref-0.1.0-py3-none-any.whl", "flask_ws_wsgiref-0.1.0.tar.gz"]
