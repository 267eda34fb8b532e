"""An ASGI server's own switches: its reloader, its workers, where it is mounted."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

from tests.support.asgi_setups import GRANIAN, GUNICORN, HYPERCORN, UVICORN, with_options
from tests.support.setups import EVERYWHERE

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.process import Server, wait_until
from flask_ws.testing.suite.raw import Peer
from flask_ws.testing.suite.stopping import (
    expect_goodbye,
    expect_handlers_to_end,
    open_some,
    stop,
)

from .ours import APPS, OurServers

#: Each with two processes.
PROCESSES, *OTHERS = (
    replace(
        with_options(setup, "2", "--workers 2"),
        capabilities=replace(setup.capabilities, processes=2),
    )
    for setup in (UVICORN, HYPERCORN, GRANIAN, GUNICORN)
)


def read_pid(server: Server) -> int:
    """Ask for the process that answers."""
    return int(json.loads(server.get("/process").body)["pid"])


class TestOptions(OurServers):
    setups = (UVICORN,)

    def test_reloader_says_goodbye(self, launch: Launch, peers: list[Peer], tmp_path: Path) -> None:
        module = tmp_path / "asgi.py"
        module.write_text((APPS / "asgi.py").read_text())
        server = launch(extra="--reload", cwd=tmp_path)
        pid = read_pid(server)
        tags = open_some(server, peers)
        # It looks at the file several times a second.
        began = time.monotonic() + 1
        os.utime(module)
        expect_goodbye(peers, began)
        expect_handlers_to_end(server, tags)
        # The old process may answer until it has ended.
        wait_until(lambda: read_pid(server) != pid, timeout=20)

    def test_every_process_says_goodbye(self, launch_other: Launch, peers: list[Peer]) -> None:
        server = launch_other(PROCESSES)
        stop(server, peers, server.setup.stop_signal)

    def test_urls_have_the_root_path(self, launch: Launch) -> None:
        server = launch(extra="--root-path /api")
        assert server.get("/http").text == "http"
        with server.connect("/headers") as peer:
            seen = json.loads(peer.read())
            peer.answer_close()
        assert (seen["path"], seen["url"]) == ("/headers", "/api/http")


class TestProcesses(OurServers):
    setups = (PROCESSES, *OTHERS) if EVERYWHERE else (PROCESSES,)

    def test_process_that_shares_no_memory_with_others_says_so(self, launch: Launch) -> None:
        server = launch()
        pids = set()
        for _ in range(6):
            tag = server.tag()
            with server.connect("/channels/handler/news", tag=tag) as peer:
                assert peer.read() == "ready"
                peer.close()
            pids.add(server.log.event("begin", tag)["pid"])
        assert server.log.read().count("The server runs several processes") == len(pids)
