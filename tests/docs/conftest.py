"""A browser for the pages, and the pages as they are published."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from tests.support.browsers import open_browser

from .markdown import ROOT


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="session")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the pages' HTML; a warning of Sphinx's is an error."""
    folder = tmp_path_factory.mktemp("documentation")
    done = subprocess.run(
        [
            Path(sysconfig.get_path("scripts"), "sphinx-build"),
            *("-q", "-W", "--keep-going", "-E", "-b", "html", "docs", folder),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=220,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"sphinx-build:\n{done.stdout}", pytrace=False)
    return folder
