"""The pages as readers see them: built without a warning, on phones and on wide screens."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from tests.support.browsers import set_size

from .markdown import ROOT

# One build for all of them.
pytestmark = [pytest.mark.timeout(240), pytest.mark.xdist_group("documentation")]

SOURCES = sorted(path for path in ROOT.glob("docs/*.*") if path.suffix in {".md", ".rst"})
#: A phone, and the narrowest of each layout for wider screens, which leave more room.
WIDTHS = (390, 1010, 1320, 1560)

#: How far the page stands out, or what scrolls in its place on phones. Tables and code may be wide.
OVERFLOW = """
const page = [document.scrollingElement, document.querySelector(".content")];
return Math.max(...page.map((box) => box.scrollWidth - box.clientWidth));
"""


def test_each_page_is_built_without_a_warning(documentation: Path) -> None:
    for source in SOURCES:
        assert (documentation / f"{source.stem}.html").is_file()


def test_no_page_scrolls_sideways(documentation: Path, browser: WebDriver) -> None:
    wide = []
    for source in SOURCES:
        browser.get((documentation / f"{source.stem}.html").as_uri())
        for width in WIDTHS:
            set_size(browser, width, 900)
            if over := browser.execute_script(OVERFLOW):
                wide.append(f"{source.stem} at {width}: {over} px")
    assert wide == []


def read_text(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


def test_an_option_of_a_command_keeps_its_two_dashes(documentation: Path) -> None:
    pages = [read_text(path) for path in documentation.glob("*.html")]
    assert any("--threads" in text for text in pages)
    for text in pages:
        assert re.findall(r"[\u2013\u2014][a-z]{3,}\b", text) == []


def test_a_page_has_a_logo_and_an_icon_and_a_dark_mode(documentation: Path) -> None:
    page = (documentation / "index.html").read_text()
    assert re.search(r'rel="[^"]*icon" href="_static/logo\.svg', page)
    assert re.search(r'<img class="sidebar-logo" src="_static/logo\.svg', page)
    assert 'class="theme-toggle"' in page


def test_charts_show_what_the_tables_say() -> None:
    """Draw them again with `python docs/pictures/charts.py`."""
    charts = runpy.run_path(str(ROOT / "docs/pictures/charts.py"))["draw_all"]()
    assert len(charts) == 6
    for name, text in charts.items():
        assert (ROOT / "docs/_static" / name).read_text() == text, name


def test_what_nobody_makes_by_hand_is_shown_without_a_constructor(documentation: Path) -> None:
    text = read_text(documentation / "api.html")
    for name in ("WebSocket", "Options", "ConnectionClosed"):
        assert re.search(rf"(class|exception)\s+flask_ws\.{name}[^(\w]", text), name
    for key in ("SOCK_BROKER_URL", "SOCK_BROKER_PREFIX"):
        assert key in text


def test_the_picture_of_how_it_works_is_what_its_script_draws() -> None:
    """Draw it again with `python docs/pictures/how_it_works.py`."""
    script = ROOT / "docs/pictures/how_it_works.py"
    done = subprocess.run(
        [sys.executable, "-c", DRAW],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    drawn: dict[str, str] = json.loads(done.stdout)
    assert len(drawn) == 2
    for path, text in drawn.items():
        assert Path(path).read_text() == text, path


DRAW = """
import json, how_it_works
print(json.dumps({str(path): text for path, text in how_it_works.draw_all().items()}))
"""
