"""Two type checkers agree on what flask_ws offers: on how it is used, and on how it is not."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BIN = Path(sysconfig.get_path("scripts"))
FILES = [HERE / "api.py", HERE / "misuse.py"]

CHECKERS = {
    "mypy": ["--strict", "--config-file=", "--python-executable", sys.executable],
    "pyright": ["--pythonpath", sys.executable],
}
each_checker = pytest.mark.parametrize("checker", CHECKERS)
pytestmark = pytest.mark.timeout(240)


def check(checker: str, file: Path, folder: Path) -> str:
    """Run a checker, out of reach of this repository's own settings; return its complaints."""
    done = subprocess.run(
        [str(BIN / checker), *CHECKERS[checker], str(file)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout


@each_checker
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_type_checker_agrees(checker: str, file: Path, tmp_path: Path) -> None:
    assert check(checker, file, tmp_path) == ""


@each_checker
def test_it_would_object(checker: str, tmp_path: Path) -> None:
    """It does look at flask_ws: without the comments, it finds each misuse."""
    lines = FILES[1].read_text().splitlines()
    file = tmp_path / "uncommented.py"
    file.write_text("".join(line.partition("  # type: ignore")[0] + "\n" for line in lines))
    complaints = check(checker, file, tmp_path)
    misuses = [number for number, line in enumerate(lines, 1) if "# type: ignore" in line]
    assert [line for line in misuses if f"uncommented.py:{line}:" not in complaints] == []
