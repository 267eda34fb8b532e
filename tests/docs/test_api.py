"""The API page has all that is public."""

from __future__ import annotations

import re

import pytest

import flask_ws
import flask_ws.testing

from .markdown import ROOT

PAGE = (ROOT / "docs" / "api.rst").read_text()


@pytest.mark.parametrize("name", flask_ws.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    assert re.search(rf"^\.\. (auto\w+|data):: {name}\b", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", flask_ws.testing.__all__)
def test_a_public_name_for_tests_is_documented(name: str) -> None:
    assert re.search(rf"^\.\. auto\w+:: flask_ws\.testing\.{name}\b", PAGE, re.MULTILINE)
