"""Writes the stacks of a server's threads at a signal, for a test that timed out."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from pathlib import Path

__all__ = ["DUMPED", "ask", "listen"]

#: A signal that no server uses. ``None`` if the system has no real-time signals.
SIGNAL: int | None = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else None
STANDARD_ERROR = 2
#: What is written above each thread.
DUMPED = "(most recent call first)"


def listen() -> None:
    """Have this process and its forks write their threads' stacks at the signal."""
    if SIGNAL is not None:
        faulthandler.register(SIGNAL, file=STANDARD_ERROR, all_threads=True)


def ask(pid: int) -> bool:
    """Send the signal to a process that handles it; it would end another. Linux only."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if SIGNAL is None or caught is None or not int(caught[1], 16) >> (SIGNAL - 1) & 1:
        return False
    os.kill(pid, SIGNAL)
    return True
