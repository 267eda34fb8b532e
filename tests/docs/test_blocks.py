"""No block of the documentation goes untested: there is a test for each kind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

from .markdown import PAGES, PROJECTS, ROOT, START_COMMAND, Block, name, read_blocks
from .serving import BIN
from .test_code import APP

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
COMMANDS = [(block, command) for block in BLOCKS for command in block.commands]

#: The languages of blocks, and the pages on which a test takes them up.
TESTED = {
    "python": [name(page) for page in PAGES],
    "console": [name(page) for page in PAGES],
    # In test_deploying.py.
    "nginx": ["docs/deploying.md"],
    "apache": ["docs/deploying.md"],
    "ini": ["docs/deploying.md"],
    "dockerfile": ["docs/deploying.md"],
    # Or in test_operations.py, test_projects.py, test_redis.py, or test_troubleshooting.py.
    "text": [
        "docs/deploying.md",
        "docs/operations.md",
        "docs/redis.md",
        "docs/testing.md",
        "docs/troubleshooting.md",
    ],
    # In test_operations.py.
    "yaml": ["docs/operations.md"],
    # In tests/unit/broker_postgresql.
    "sql": ["docs/postgresql.md"],
    # In test_javascript.py.
    "js": ["docs/deploying.md", "docs/quickstart.md"],
    # In test_projects.py.
    "html": [name(page) for page in PROJECTS],
    # In tests/unit/live/test_wire_page.py.
    "json": ["docs/presence.md", "docs/wire.md"],
    # In test_migrating.py.
    "diff": ["docs/migrating.md"],
}

PIP = re.compile(r'(?:/srv/chat/\.venv/bin/)?pip install "?([^" ]+)"?( pytest)?(\s+#.*)?$')
#: What makes a project, and what this suite does itself.
OTHER_COMMANDS = [
    r"python -m venv \.venv",
    r"\. \.venv/bin/activate",
    r"pytest",
    r"python -m unittest \w+",
    r"uv run .*",
    # In tests/packaging/test_first_contact.py.
    r"command -v uv \|\| .* uv run .*",
    r'pip install "flask-ws @ git\+https://.*',
    # In test_cli_channels.py, as they need a broker.
    r"flask --app app ws (channels|publish .*)",
    # In tests/migration/test_large_apps.py.
    r"flask ws migrate (--write )?\.",
    # Tried by hand: these change the machine.
    r"apt-get install python3-venv nginx",
    r"useradd --system --create-home chat",
    r"python3 -m venv /srv/chat/\.venv",
    r"systemctl (enable --now chat|reload nginx)",
]
#: Those of Flask's command line need the app, or nothing; `connect` has a test elsewhere.
LISTINGS = sorted(
    {command for _, command in COMMANDS if re.search(r"\bws (servers|routes)", command)}
)
#: Those to an app without a server.
CONNECTIONS = sorted(
    {command for _, command in COMMANDS if re.search(r"\bws connect .*(?<!/)/\w+$", command)}
    - {command for _, command in COMMANDS if "://" in command}
)
BENCHMARKS = sorted(
    {command.split("#")[0] for _, command in COMMANDS if "python -m benchmarks" in command}
)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_test_takes_up_the_block(block: Block) -> None:
    assert name(block.page) in TESTED[block.language]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_is_overlooked(page: Path) -> None:
    """The fences are as many as the blocks that are read, and those of directives."""
    text = page.read_text()
    directives = len(re.findall(r"^```\{(?!code-block)", text, re.MULTILINE))
    assert len(read_blocks(page)) + directives == len(re.findall(r"^ *```", text, re.MULTILINE)) / 2


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{block}: {command}" for block, command in COMMANDS]
)
def test_the_command_is_of_a_known_kind(block: Block, command: str) -> None:
    if (pip := PIP.match(command)) and "://" not in command:
        distribution, _, extras = pip[1].rstrip("]").partition("[")
        assert distribution in {"flask-ws", "pytest"}
        project = tomli.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])
        return
    assert (
        START_COMMAND.match(command)
        or command in LISTINGS
        or command.startswith(
            (
                "flask ws connect ws",
                "flask ws stats http",
                "flask ws load ws",
                "flask ws drain http",
            )
        )
        or command in CONNECTIONS
        or any(re.fullmatch(other, command) for other in OTHER_COMMANDS)
        or block.page.name == "CONTRIBUTING.md"
    )


@pytest.mark.parametrize("command", LISTINGS)
def test_the_command_lists_something(command: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [BIN / "flask", *command.split()[1:]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("/echo" if "routes" in command else "gunicorn") in done.stdout


@pytest.mark.parametrize("command", CONNECTIONS)
def test_the_command_talks_to_the_app(command: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [BIN / "flask", *command.split()[1:]],
        cwd=tmp_path,
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


@pytest.mark.parametrize("command", BENCHMARKS)
def test_the_options_of_the_benchmarks_are_theirs(command: str) -> None:
    """What comes before `--help` is looked at before help is given."""
    _, _, options = command.partition("-m benchmarks")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options.split(), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
