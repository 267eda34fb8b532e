"""The user that docs/redis.md makes may do what flask-ws does, on a server and on a cluster."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.redis import RedisServer
from tests.support.server import wait_until

from flask_ws.plugin.manager import plugins
from flask_ws.testing.brokers import Process

from .markdown import ROOT

PAGE = (ROOT / "docs/redis.md").read_text()


def read_commands() -> tuple[str, list[str]]:
    """The command of the page, and what it adds for clusters."""
    command = re.search(r"^ACL SETUSER .*$", PAGE, re.MULTILINE)
    more = re.search(r"^On a cluster also (.*?\.)", PAGE, re.MULTILINE | re.DOTALL)
    assert command is not None
    assert more is not None
    return command[0], re.findall(r"`(\+[^`]+)`", more[1])


@pytest.fixture(params=["redis", "redis+cluster"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """That of a Redis with that user, and no other."""
    command, more = read_commands()
    server = RedisServer(tmp_path)
    if request.param == "redis+cluster":
        server.be_cluster()
        command = " ".join([command, *more])
    try:
        server.start()
        with contextlib.closing(server.client()) as client:
            client.execute_command(*command.split())
            client.execute_command("ACL SETUSER", "default", "off")
        yield f"{request.param}://app:password@127.0.0.1:{server.port}"
    finally:
        server.kill()


def test_the_user_may_do_what_flask_ws_does(url: str) -> None:
    processes = [Process(plugins.open_broker(url)) for _ in range(2)]
    try:
        for process in processes:
            process.broker.subscribe("flask_ws:news")
            process.broker.subscribe("flask_ws:other")
            process.broker.unsubscribe("flask_ws:other")
        processes[0].broker.publish("flask_ws:news", b"payload")
        processes[1].await_payload(b"payload")
        wait_until(
            lambda: processes[0].broker.channels("flask_ws:") == {"flask_ws:news": 2},
            what="the other channel to be gone",
        )
    finally:
        for process in processes:
            process.broker.close()
