"""The static checks are tests, so that one command runs all there is."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sysconfig.get_path("scripts"))


def run(program: str, *arguments: str, timeout: float = 100) -> None:
    """Run a program of this environment in the repository; fail with all that it says."""
    done = subprocess.run(
        [BIN / program, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{program}:\n{done.stdout}", pytrace=False)


def test_ruff_finds_nothing() -> None:
    run("ruff", "check", "--quiet")


def test_ruff_would_not_reformat_anything() -> None:
    run("ruff", "format", "--check", "--quiet")


@pytest.mark.timeout(240)
def test_mypy_finds_nothing() -> None:
    run("mypy", timeout=220)


def test_imports_run_one_way() -> None:
    run("lint-imports", "--no-cache")
