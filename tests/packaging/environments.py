"""New environments, made by uv, and what to do where that is not possible."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: What uv says where a registry cannot be reached, as opposed to one that has no such package.
UNREACHABLE = re.compile(
    r"dns error|client error \(Connect\)|error sending request|Connection refused"
    r"|network (was|is) (disabled|unreachable)|operation timed out",
    re.IGNORECASE,
)

#: Not what the suite itself is run with.
PRIVATE = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONPATH", "COVERAGE_", "COV_", "FLASK_")


def clean_environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE)}


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    timeout: float = 120,
    environ: dict[str, str] | None = None,
) -> str:
    """Run a program, and return its output; a registry out of reach skips the test."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean_environ() | (environ or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        if UNREACHABLE.search(done.stdout):
            pytest.skip(f"no package registry can be reached: {done.stdout.splitlines()[0]}")
        pytest.fail(f"{' '.join(map(str, command))}:\n{done.stdout[-10_000:]}", pytrace=False)
    return done.stdout


def uv(*arguments: str | Path, cwd: Path = ROOT, timeout: float = 300) -> str:
    program = shutil.which("uv")
    if program is None:
        pytest.skip("uv is not installed")
    return run(
        program, *arguments, cwd=cwd, timeout=timeout, environ={"UV_PYTHON_DOWNLOADS": "never"}
    )


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, python: str = sys.executable) -> Environment:
        uv("venv", "--quiet", "--no-project", "--python", python, folder)
        return cls(folder)

    @property
    def bin_folder(self) -> Path:
        return self.folder / "bin"

    def install(self, *arguments: str | Path) -> None:
        uv("pip", "install", "--quiet", "--python", self.bin_folder / "python", *arguments)

    def read_versions(self) -> dict[str, str]:
        """The distributions in it, and their versions."""
        frozen = uv(
            "pip", "list", "--quiet", "--format=freeze", "--python", self.bin_folder / "python"
        )
        return dict(line.split("==") for line in frozen.splitlines() if "==" in line)

    def check(self) -> None:
        """Fail if a requirement of a distribution is not met."""
        uv("pip", "check", "--quiet", "--python", self.bin_folder / "python")

    def run(self, *arguments: str, cwd: Path, timeout: float = 300) -> str:
        """Run its Python."""
        return run(self.bin_folder / "python", *arguments, cwd=cwd, timeout=timeout)


def find_lowest_python() -> str:
    """CPython 3.10 if there is one, on PATH or among pyenv's; else the one that runs this."""
    name = "python3.10"
    candidates = [Path(folder) / name for folder in os.get_exec_path()]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += sorted(root.glob(f"versions/3.10*/bin/{name}"))
    for candidate in candidates:
        # One of pyenv's shims may be there and lead nowhere.
        if candidate.is_file() and not subprocess.call(
            [candidate, "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30
        ):
            return str(candidate)
    return sys.executable
