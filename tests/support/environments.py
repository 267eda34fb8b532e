"""Environments of their own for server versions that the others do not use."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "servers"

#: What each of them serves: the packages as they are in this checkout.
MEMBERS = ("core", "server-gunicorn", "server-eventlet", "server-asgi")


class Unavailable(Exception):
    """The environment cannot be made here."""


def make_environment(requirement: str) -> Path:
    """Make it, or find it made; returns its folder of programs."""
    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    folder = CACHE / f"{requirement.replace('==', '-')}-{version}"
    programs = folder / "bin"
    done = folder / "done"
    uv = shutil.which("uv")
    if uv is None:
        raise Unavailable(f"{requirement} needs uv to make its environment")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return programs
        install = [uv, "pip", "install", "--quiet", "--python", str(programs / "python")]
        for member in MEMBERS:
            install += ["--editable", str(ROOT / "packages" / member)]
        commands = (
            [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
            [*install, requirement],
        )
        for command in commands:
            result = subprocess.run(
                command, capture_output=True, text=True, timeout=300, check=False
            )
            if result.returncode:
                raise Unavailable(f"{requirement} cannot be installed: {result.stderr[-1000:]}")
        done.touch()
    return programs
