"""The page on what does not work quotes what is really said."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from .markdown import ROOT, read_blocks
from .test_code import APP

PATH = ROOT / "docs" / "troubleshooting.md"
PAGE = PATH.read_text()
#: What the first column of a table quotes, but for status codes.
QUOTED = [
    text
    for cell in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", cell)
    if not text.isdigit()
]


def read_texts() -> list[str]:
    """The string constants of the packages' code."""
    return [
        node.value
        for path in ROOT.glob("packages/*/src/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


TEXTS = read_texts()


def test_there_are_texts_to_look_for() -> None:
    assert len(QUOTED) >= 20


@pytest.mark.parametrize("quoted", QUOTED)
def test_a_quoted_line_of_the_log_is_one(quoted: str) -> None:
    assert any(quoted in text for text in TEXTS)


def test_a_connection_has_these_lines_where_logging_is_configured_so() -> None:
    (configuration,) = (block for block in read_blocks(PATH) if block.language == "python")
    (lines,) = (block for block in read_blocks(PATH) if block.language == "text")
    client = """
from flask_ws.testing import connect

with connect(app, "/echo") as ws:
    ws.close(1001)
"""
    script = APP + configuration.code + client
    ran = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    for line, expected in zip(ran.stderr.splitlines(), lines.code.splitlines(), strict=True):
        pattern = re.escape(expected).replace("7\\.305", r"\d+\.\d{3}").replace("…", r"\d+ .+")
        pattern = pattern.replace("65f28fd94b7a", "[0-9a-f]{12}")
        assert re.fullmatch(pattern, line)
