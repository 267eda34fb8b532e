"""Where the threads of a server are, for a test that has waited in vain; asked for by a signal."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
from pathlib import Path

__all__ = ["DUMPED", "ask", "listen"]

#: No server uses it. ``None`` where the system has no such signals.
SIGNAL: int | None = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else None
STANDARD_ERROR = 2
#: What is written above each thread.
DUMPED = "(most recent call first)"


def listen() -> None:
    """Have this process, and those that are forked from it, write where their threads are."""
    if SIGNAL is not None:
        faulthandler.register(SIGNAL, file=STANDARD_ERROR, all_threads=True)


def ask(pid: int) -> bool:
    """Ask a process for it, unless it does not listen: the signal would end it. Linux only."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if SIGNAL is None or caught is None or not int(caught[1], 16) >> (SIGNAL - 1) & 1:
        return False
    os.kill(pid, SIGNAL)
    return True
