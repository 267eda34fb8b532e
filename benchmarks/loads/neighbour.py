"""The load of small messages, while another process computes on the server's core."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.loads import Result, Target, echo_small

BUSY = "while True: pass"


def run(target: Target, *, seconds: float = 2.0, warm_up: float = 0.5) -> Result:
    # In a session of its own, as the server is: where the kernel groups tasks by session, each of
    # the two then has half of the core.
    neighbour = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
    try:
        os.sched_setaffinity(neighbour.pid, os.sched_getaffinity(target.pid))
        return echo_small.run(target, seconds=seconds, warm_up=warm_up)
    finally:
        neighbour.kill()
        neighbour.wait()
