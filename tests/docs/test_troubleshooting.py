"""The page on what does not work quotes what is really said."""

from __future__ import annotations

import ast
import re

import pytest

from .markdown import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
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
