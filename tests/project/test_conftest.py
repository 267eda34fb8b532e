"""Skips are allowed at home, and not in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"

SKIPS = """
import pytest

def test_passes():
    pass

def test_skips():
    pytest.skip("no chromium")

@pytest.mark.skip(reason="no nginx")
def test_marked():
    pass

@pytest.mark.xfail
def test_fails_as_expected():
    assert False

def test_excused():
    pytest.skip("no CPython 2.7 found")
"""

MODULE_SKIPS = """
import pytest

pytest.skip("no redis", allow_module_level=True)
"""


def run_pytest(folder: Path, *, ci: bool) -> str:
    """The closing line of a run of its own."""
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder],
        cwd=folder,
        env={**os.environ, "FLASK_WS_CI": "1" if ci else ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.splitlines()[-1]


def test_a_skip_is_a_skip_at_home(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SKIPS)
    assert "1 passed, 3 skipped, 1 xfailed" in run_pytest(tmp_path, ci=False)


def test_a_skip_fails_in_ci_unless_cpython_2_7_is_missing(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SKIPS)
    # A mark skips a test before it begins, which makes it an error.
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in run_pytest(tmp_path, ci=True)


@pytest.mark.parametrize(("ci", "summary"), [(False, "1 skipped"), (True, "1 error")])
def test_a_module_that_skips_itself_is_treated_alike(
    tmp_path: Path, ci: bool, summary: str
) -> None:
    (tmp_path / "test_it.py").write_text(MODULE_SKIPS)
    assert summary in run_pytest(tmp_path, ci=ci)
