"""``flask ws migrate``: what to change in an app that was written for flask-sock."""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

__all__ = ["Finding", "find_in_python", "migrate", "rewrite"]

#: The packages that flask-ws takes the place of.
OLD_PACKAGES = ("flask_sock", "simple_websocket")
#: What flask-ws has under the same name.
SAME_NAMES = {"flask_sock": {"Sock"}, "simple_websocket": {"ConnectionClosed"}}
#: Functions whose results are no messages.
NUMBERS = {"len", "int", "float", "sum", "dict", "list"}
#: Attributes of the connection that have another name.
RENAMED = {"close_message": "close_reason", "close_reason": "close_code"}
#: Those that flask-ws has not, nor needs.
MISSING = {
    "event": "the connection waits by itself",
    "input_buffer": "ws.receive() is the only way to the messages",
    "is_server": "it always is",
    "received_bytes": "there is none",
    "sock": "the socket is not the app's to use",
    "thread": "no thread receives",
    "ws": "the protocol is not the app's to use",
}
#: Names that handlers usually give the connection.
CONNECTION = re.compile(r"(.*_)?(ws|websocket|client|peer)", re.IGNORECASE)
#: Files that name what an app requires, and a line of theirs with an old package.
REQUIREMENTS = re.compile(r"pyproject\.toml|.*requirements.*\.(txt|in)")
REQUIREMENT = re.compile(r"""^[\s"'-]*(flask[-_.]sock|simple[-_.]websocket)\b""", re.IGNORECASE)
#: Folders in which nothing of the app's own is.
SKIPPED = {"node_modules", "site-packages", "__pycache__"}


@dataclass(frozen=True)
class Edit:
    """A change to one line, in bytes from its start."""

    line: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A place that flask-ws needs changed, or that is to be looked at.

    :param line: the number of the line.
    :param advice: what to do.
    :param edits: changes that do it; none, where somebody has to think.
    """

    line: int
    advice: str
    edits: tuple[Edit, ...] = ()


@click.command("migrate")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="Make the changes that need no decision.")
@click.pass_context
def migrate(context: click.Context, path: Path, write: bool) -> None:
    """List what to change in an app of flask-sock's, in a file or a folder.

    Each line names a place, and what to do there; those with a star are done by --write. How the
    two differ at run time is told at "Migrating" in the documentation. The exit code is 1 while
    there is something to do.
    """
    left = 0
    for file in sorted(_files(path)):
        try:
            data = file.read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            source = data.decode(encoding)
        except (SyntaxError, UnicodeDecodeError, OSError) as error:
            click.echo(f"{file}: cannot be read: {error}", err=True)
            continue
        is_python = file.suffix == ".py"
        try:
            found = find_in_python(source) if is_python else _find_in_requirements(source)
        except (SyntaxError, ValueError, RecursionError) as error:
            click.echo(f"{file}: is not Python that this Python reads: {error}", err=True)
            continue
        if write and any(finding.edits for finding in found):
            file.write_bytes(rewrite(source, found).encode(encoding))
        for finding in found:
            done = write and finding.edits
            left += not done
            mark = "done: " if done else "* " if finding.edits else ""
            click.echo(f"{file}:{finding.line}: {mark}{finding.advice}")
    if not left:
        click.echo("Nothing is left to do.")
    context.exit(1 if left else 0)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        # Those of a virtual environment are not the app's.
        folders[:] = [
            name
            for name in folders
            if name not in SKIPPED
            and not name.startswith(".")
            and not Path(folder, name, "pyvenv.cfg").exists()
        ]
        for name in names:
            if name.endswith(".py") or re.fullmatch(
                r"pyproject\.toml|.*requirements.*\.(txt|in)", name
            ):
                yield Path(folder, name)


def _find_in_requirements(source: str) -> list[Finding]:
    return [
        Finding(number, f"flask-ws[…], with the extra of your server, in place of {match[1]}")
        for number, line in enumerate(source.splitlines(), 1)
        if (match := REQUIREMENT.match(line))
    ]


def find_in_python(source: str) -> list[Finding]:
    """Find what to change in a module.

    :param source: its source.
    :raises SyntaxError: it is not Python.
    """
    if not any(name in source for name in OLD_PACKAGES):
        return []
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    return sorted(finder.found, key=lambda finding: finding.line)


def rewrite(source: str, found: list[Finding]) -> str:
    """Make the changes that need no thought.

    :param source: the source of a module.
    :param found: what was found in it.
    """
    lines = _split(source)
    edits = {edit for finding in found for edit in finding.edits}
    for edit in sorted(edits, key=lambda edit: (edit.line, edit.start), reverse=True):
        line = lines[edit.line - 1]
        lines[edit.line - 1] = line[: edit.start] + edit.text.encode() + line[edit.end :]
    return b"".join(lines).decode()


def _split(source: str) -> list[bytes]:
    """Split a source into lines as Python does, and encode them as it counts columns."""
    return [line.encode() for line in re.split(r"(?<=\n)|(?<=\r)(?!\n)", source)]


class _Finder(ast.NodeVisitor):
    """Collects what is found in a module."""

    def __init__(self, source: str) -> None:
        self.found: list[Finding] = []
        self._lines = _split(source)

    def _add(self, node: ast.AST, advice: str, *edits: Edit) -> None:
        self.found.append(Finding(getattr(node, "lineno", 1), advice, edits))

    def visit_Import(self, node: ast.Import) -> None:
        """Look at ``import flask_sock``."""
        for alias in node.names:
            if alias.name in OLD_PACKAGES:
                end = alias.col_offset + len(alias.name)
                edit = Edit(alias.lineno, alias.col_offset, end, "flask_ws")
                self._add(node, f"import flask_ws in place of {alias.name}", edit)
            elif alias.name.partition(".")[0] in OLD_PACKAGES:
                self._add(node, f"flask-ws has no {alias.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Look at ``from flask_sock import Sock``."""
        package = (node.module or "").partition(".")[0]
        if node.level or package not in OLD_PACKAGES:
            return
        names = {alias.name for alias in node.names}
        others = sorted(names - SAME_NAMES[package])
        if others:
            self._add(node, f"flask-ws has no {', '.join(others)}, which {package} has")
        else:
            before = re.match(rb"from\s+", self._lines[node.lineno - 1][node.col_offset :])
            assert before is not None
            start = node.col_offset + before.end()
            edit = Edit(node.lineno, start, start + len(node.module or ""), "flask_ws")
            self._add(node, f"from flask_ws import {', '.join(sorted(names))}", edit)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Look at attributes of a connection."""
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id in OLD_PACKAGES:
            self._look_at_name(node, node.value)
            return
        of_connection = isinstance(node.value, ast.Name) and CONNECTION.fullmatch(node.value.id)
        line, end = node.end_lineno or node.lineno, node.end_col_offset or 0
        if node.attr in RENAMED:
            name = RENAMED[node.attr]
            edit = Edit(line, end - len(node.attr), end, name)
            self._add(node, f"{name} in place of {node.attr}", edit)
        elif of_connection and node.attr in MISSING:
            self._add(node, f"{node.attr} is missing: {MISSING[node.attr]}")

    def _look_at_name(self, node: ast.Attribute, package: ast.Name) -> None:
        if node.attr not in SAME_NAMES[package.id]:
            self._add(node, f"flask-ws has no {node.attr}, which {package.id} has")
            return
        end = package.col_offset + len(package.id)
        edit = Edit(package.lineno, package.col_offset, end, "flask_ws")
        self._add(node, f"flask_ws.{node.attr}", edit)

    def visit_Call(self, node: ast.Call) -> None:
        """Look at ``ws.send()`` of something else than a message."""
        self.generic_visit(node)
        if not (isinstance(node.func, ast.Attribute) and node.func.attr == "send" and node.args):
            return
        data = node.args[0]
        if isinstance(data, ast.Constant):
            is_message = isinstance(data.value, (str, bytes))
        elif isinstance(data, ast.Call) and isinstance(data.func, ast.Name):
            is_message = data.func.id not in NUMBERS
        else:
            is_message = not isinstance(data, (ast.Dict, ast.List, ast.Tuple, ast.Set))
        if not is_message:
            self._add(node, "send() takes str and bytes: str(...), or send_json(...)")

    def visit_Constant(self, node: ast.Constant) -> None:
        """Look at the options."""
        if node.value == "SOCK_SERVER_OPTIONS":
            self._add(
                node,
                "SOCK_SERVER_OPTIONS is read still: ping_interval, max_message_size and "
                "subprotocols of it are SOCK_PING_INTERVAL and so on; its others have no effect",
            )
