"""Starting a contender on its core, and the load generator on another."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.wire import HOST

ROOT = Path(__file__).parent.parent
START_SECONDS = 20.0
LOAD_SECONDS = 180.0


class Failed(Exception):
    """A server did not start, or a load did not end well."""


@dataclass(frozen=True)
class Place:
    """Where processes run."""

    server_core: int | None
    client_core: int | None
    #: Raise the priority of both: for root, on a machine where others are at work.
    urgent: bool = False

    def prepare(self, core: int | None) -> Callable[[], None]:
        """What a new process does to itself before its program starts."""

        def prepare() -> None:
            if core is not None:
                os.sched_setaffinity(0, {core})
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            if self.urgent:
                os.nice(-20)
                # Nice counts within a session only, where the kernel groups tasks by session.
                with contextlib.suppress(OSError):
                    Path("/proc/self/autogroup").write_text("-20")

        return prepare

    @classmethod
    def choose(cls, cores: str, urgent: bool) -> Place:
        if cores == "any":
            return cls(None, None, urgent)
        if cores:
            server, client = map(int, cores.split(","))
            return cls(server, client, urgent)
        available = sorted(os.sched_getaffinity(0))
        if len(available) < 2:
            print("One core only: the load generator takes from the server.", file=sys.stderr)
            return cls(None, None, urgent)
        return cls(available[0], available[1], urgent)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


def has(python: str, needs: tuple[str, ...]) -> bool:
    """Whether an interpreter can import all of these."""
    code = "import importlib, operator, sys\n" + "\n".join(
        f"module = importlib.import_module({need.partition(':')[0]!r})"
        + (f"; operator.attrgetter({need.partition(':')[2]!r})(module)" if ":" in need else "")
        for need in needs
    )
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code], capture_output=True, timeout=60, check=False
    )
    return done.returncode == 0


@contextlib.contextmanager
def serving(contender: Contender, place: Place, python: str) -> Iterator[tuple[int, int]]:
    """Run a contender; yield its port and its process id."""
    port = free_port()
    command = [part.format(python=python, port=port) for part in shlex.split(contender.command)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **contender.env}
    env.pop("VIRTUAL_ENV", None)
    # A server has a session of its own: whoever ends this process is to end that as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=place.prepare(place.server_core),  # noqa: PLW1509 - this process has one thread
        )

        def tail() -> str:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 600))
            return log.read().decode(errors="replace").strip()

        try:
            _wait_for(port, process)
            yield port, process.pid
        except Failed as error:
            raise Failed(f"{error}\n{tail()}") from error
        finally:
            # Its whole session, at once: how it ends is not what is measured.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"the server ended with {process.returncode}")
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise Failed(f"the server did not listen within {START_SECONDS} s")


def generate(module: str, options: Mapping[str, Any], place: Place) -> dict[str, float]:
    """Run a load generator; return its result."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loads", module, json.dumps(dict(options))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=place.prepare(place.client_core),  # noqa: PLW1509 - this process has one thread
    )
    try:
        out, err = process.communicate(timeout=LOAD_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"the load did not end within {LOAD_SECONDS} s") from None
    finally:
        process.kill()
        process.wait(10)
    if process.returncode:
        last = err.strip().rpartition("\n")[2].removeprefix("benchmarks.wire.")
        raise Failed(last or "the load failed")
    result: dict[str, float] = json.loads(out)
    return result
