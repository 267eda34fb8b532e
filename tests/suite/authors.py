"""The folder of a plugin's author, and pytest as he runs it there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

EXAMPLE = Path(__file__).parent / "example"

#: Nothing but what the author has: no configuration of ours, and every warning an error.
ARGUMENTS = (
    "-q",
    "-p",
    "no:cacheprovider",
    "--strict-markers",
    "-W",
    "error",
    "-rA",
    "--rootdir=.",
)


@dataclass(frozen=True)
class Outcome:
    """What a run of pytest said."""

    output: str

    def tests(self, outcome: str) -> set[str]:
        """The names of the tests with this outcome, with their parameters."""
        return set(re.findall(rf"^{outcome} \S+::(test_\S+)", self.output, re.MULTILINE))


def make_folder(folder: Path, **files: str) -> Path:
    """A copy of the example; `files` are contents of modules by their names."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def run_pytest(folder: Path, *arguments: str, timeout: float = 200, **variables: str) -> Outcome:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "FLASK_WS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *ARGUMENTS, *arguments],
        cwd=folder,
        env=environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.stdout)
