"""The unit tests that have to do with sockets, once more as on Windows, and as on macOS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: More than any of them takes.
PATIENCE = 280

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="made of what Linux has"),
    pytest.mark.timeout(PATIENCE + 20),
    pytest.mark.slow,
]


@pytest.mark.parametrize(
    "folder",
    ["broker_redis", "cli", "connection", "http", "plugin", "testing", "views"],
)
@pytest.mark.parametrize("system", ["windows", "macos"])
def test_unit_tests_pass_as_on_another_system(system: str, folder: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", f"tests.support.{system}"]
    # Its workers would not know of the plugin; and this process is in a test run already.
    command += [
        "-p",
        "no:xdist",
        "-p",
        "no:flask",
        "-o",
        "addopts=--import-mode=importlib",
        "-p",
        "no:cacheprovider",
    ]
    environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environ.pop("FLASK_WS_CI", None)
    done = subprocess.run(
        [*command, f"tests/unit/{folder}"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stdout[-6000:]
