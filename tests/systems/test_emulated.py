"""The unit tests that have to do with sockets, once more as on Windows, and as on macOS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "tests/unit"
#: What uses a socket or a console itself, in the process of the tests: a child of theirs is on the
#: system that it is on. The rest of the unit tests does the same on all systems.
FILES = (
    "channels/test_channels.py",
    "cli/test_connect.py",
    "connection/test_connection.py",
    "connection/test_interruptions.py",
    "connection/test_sender.py",
    "connection/test_transport.py",
    "http/test_async_link.py",
    "http/test_detach.py",
    "http/test_link.py",
    "http/test_takeover.py",
    "loop/test_asyncio_loop.py",
    "loop/test_flusher.py",
    "loop/test_pollers.py",
    "loop/test_reactor.py",
    "servers/test_hubs.py",
    "testing/test_client.py",
    "views/test_views.py",
)
#: On macOS redis-py waits as it does here.
ALSO = {"windows": ("broker_redis/test_broker.py",), "macos": ()}
#: Several connections of redis-py's are no other than one; and a view in a thread of its own reads
#: its socket as a handler does.
CHOSEN = "not cluster and not (test_views and detached)"
#: More than they take on a machine that is busy.
PATIENCE = 580

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="made of what Linux has"),
    pytest.mark.timeout(PATIENCE + 20),
    pytest.mark.slow,
]


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_unit_tests_pass_as_on_another_system(system: str) -> None:
    # One process: to import everything is a good part of what it does.
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", f"tests.support.{system}"]
    command += ["-k", CHOSEN]
    # Its workers would not know of the plugin; and this process is in a test run already.
    command += ["-p", "no:xdist", "-p", "no:flask", "-p", "no:cacheprovider"]
    command += ["-o", "addopts=--import-mode=importlib"]
    environ = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    environ.pop("FLASK_WS_CI", None)
    done = subprocess.run(
        [*command, *(str(UNIT / file) for file in (*FILES, *ALSO[system]))],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stdout[-6000:]
