"""The chat in two processes that share a Redis, of which one is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.redis import RedisServer
from tests.support.server import wait_until
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from flask_ws.testing.suite.process import find_port

ROOT = Path(__file__).parents[2]
#: As the example is, but for the seconds after which a dead process is not waited for any more.
SERVE = """
import sys
from examples.chat.app import app
app.config["SOCK_PRESENCE_LEASE"] = 1
app.run(port=int(sys.argv[1]))
"""


@contextmanager
def serve(broker: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = find_port()
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        cwd=ROOT,
        env={**os.environ, "SOCK_BROKER_URL": broker},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield port, process
        finally:
            process.kill()


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Person:
    """Somebody in the lobby, by the wire format."""

    def __init__(self, ws: ClientConnection, name: str) -> None:
        self.members: dict[str, Any] = {}
        self._ws = ws
        join = {"type": "join", "id": 1, "channel": "chat:lobby", "info": {"name": name}}
        ws.send(json.dumps(join))

    def wait_for(self, *names: str) -> None:
        """Wait until these are there, and nobody else."""
        while sorted(info["name"] for (info,) in self.members.values()) != sorted(names):
            message = json.loads(self._ws.recv(timeout=30))
            if message["type"] != "presence":
                continue
            if message["event"] == "state":
                self.members = message["members"]
            elif message["event"] == "join":
                self.members[message["key"]] = message["infos"]
            else:
                del self.members[message["key"]]


@pytest.mark.timeout(90)
def test_who_was_in_a_killed_process_has_left(tmp_path: Path) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path).running())
        (one, killed), (other, _) = (stack.enter_context(serve(redis.url)) for _ in range(2))

        def enter(port: int, name: str) -> Person:
            url = f"ws://127.0.0.1:{port}/chat/lobby?secret={name}"
            wait_until(lambda: accepts(port), timeout=30)
            speaks = [Subprotocol("flask-ws.v1")]
            ws = stack.enter_context(connect(url, subprotocols=speaks, proxy=None))
            return Person(ws, name)

        ada, grace = enter(one, "Ada"), enter(other, "Grace")
        for person in (ada, grace):
            person.wait_for("Ada", "Grace")
        killed.send_signal(signal.SIGKILL)
        grace.wait_for("Grace")
