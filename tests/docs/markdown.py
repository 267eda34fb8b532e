"""The code in our pages, as a reader would take it from there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Pages for authors of plugins and for maintainers, which have tests of their own.
OTHERS = {ROOT / "docs" / name for name in ("plugins.md", "brokers.md", "releasing.md")}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(set(ROOT.glob("docs/*.md")) - OTHERS),
    *sorted(ROOT.glob("packages/*/README.md")),
]

#: Pages whose files, each with its name as the caption, make up a project.
PROJECTS = [ROOT / "docs" / "chat.md", ROOT / "docs" / "testing.md"]

FENCE = re.compile(
    r"^```(?:(?P<language>\w+)|\{code-block\} *(?P<directive>\w+))\n"
    r"(?P<options>(?::[^\n]*\n)*)\n?"
    r"(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
CAPTION = re.compile(r"^:caption: *(.+)$", re.MULTILINE)
TABLE_COMMAND = re.compile(
    r"^\|.*`((?:flask|gunicorn|waitress-serve|uwsgi) [^`]+)` *\|$", re.MULTILINE
)
#: Those that start a server with the app of `app.py`, or with what `asgi.py` makes of it.
START_COMMAND = re.compile(
    r"flask .*\brun\b|(gunicorn|waitress-serve|uwsgi) .*\bapp:app\b"
    r"|(uvicorn|hypercorn|granian|gunicorn) .*\basgi:asgi\b"
)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    caption: str | None
    code: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"

    @property
    def is_script(self) -> bool:
        """Does it serve an app of another file, and so never end?"""
        return (
            self.language == "python"
            and self.page not in PROJECTS
            and "from app import app" in self.code
        )

    @property
    def is_served(self) -> bool:
        """Is it a file that a server's command names?"""
        return self.is_script and "flask_ws_asgi" in self.code

    @property
    def commands(self) -> list[str]:
        if self.language != "console":
            return []
        return [line.removeprefix("$ ") for line in self.code.splitlines() if line]


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    blocks = []
    for match in FENCE.finditer(text):
        caption = CAPTION.search(match["options"])
        blocks.append(
            Block(
                page,
                text.count("\n", 0, match.start("code")) + 1,
                match["language"] or match["directive"],
                caption[1].replace("\\_", "_") if caption else None,
                match["code"],
            )
        )
    return blocks


def read_start_commands(page: Path) -> list[str]:
    """Read the commands of a page that start a server, from its tables as well."""
    commands = [command for block in read_blocks(page) for command in block.commands]
    commands += TABLE_COMMAND.findall(page.read_text())
    return [command for command in commands if START_COMMAND.match(command)]
