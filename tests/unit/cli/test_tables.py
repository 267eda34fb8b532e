"""Tables on the command line."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from flask_ws.cli.tables import show


def be_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the output be a terminal of twenty columns; in a test, as capsys replaces it there."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((20, 24)))


HEADER = ["Endpoint", "Messages in"]


def test_a_row_is_a_list_on_a_terminal_that_is_too_narrow(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    be_terminal(monkeypatch)
    show(HEADER, [["feed", "7"], ["chat", "8"]])
    assert capsys.readouterr().out == (
        "Endpoint     feed\nMessages in  7\n\nEndpoint     chat\nMessages in  8\n"
    )


def test_a_row_is_a_row_on_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    be_terminal(monkeypatch)
    show(["Endpoint", "In"], [["feed", "7"]])
    assert capsys.readouterr().out == "Endpoint  In\n--------  --\nfeed      7\n"


def test_a_row_is_a_row_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    show(["Endpoint", "In" * 100], [["feed", "7"]])
    assert capsys.readouterr().out.splitlines()[2] == "feed      7"
