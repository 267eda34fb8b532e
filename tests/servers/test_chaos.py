"""A bounded while with every kind of client at once; afterwards all is as it was before.

`FLASK_WS_CHAOS_SECONDS` makes it longer. With `FLASK_WS_CHAOS_DEV=1` the server runs in Python's
development mode, and its threads are switched all the time.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.asgi_setups import GRANIAN, HYPERCORN, UVICORN, WSPROTO
from tests.support.chaos import Crowd
from tests.support.redis import RedisServer
from tests.support.setups import EVERYWHERE, SETUPS, OurSetup

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.log import find_tracebacks
from flask_ws.testing.suite.process import Server, wait_until
from flask_ws.testing.suite.setups import on_main
from flask_ws.testing.suite.waiting import Timeout

from .ours import OurServers

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("FLASK_WS_CHAOS_SECONDS", "2"))
DEV = {"PYTHONDEVMODE": "1", "LIVE_SWITCH_INTERVAL": "1e-5"}
EVERY = (*SETUPS, UVICORN, WSPROTO, HYPERCORN, GRANIAN)
#: Setups that have much in common with another: threads with TLS, and ASGI.
LEFT_OUT = {"werkzeug-tls", "uvicorn-wsproto", "hypercorn"}
#: What an allocator keeps, and a minute's log lines in buffers.
SPARE_RSS = 24 << 20


def settle(server: Server) -> None:
    """Await the ends of all handlers, whose beginnings and ends are in the log."""

    def is_settled() -> bool:
        log = server.log.read()
        return log.count('LIVE {"event": "begin"') == log.count('LIVE {"event": "end"')

    wait_until(is_settled, timeout=15, what="every handler to end", every=0.2)


def descriptors(server: Server, redis: RedisServer | None) -> int:
    """How many descriptors there are, without those to the broker: when it stops, they are new."""
    port = redis.port if redis else None
    sockets = [each for process in server.processes() for each in process.net_connections("tcp")]
    brokers = sum(bool(each.raddr) and each.raddr.port == port for each in sockets)
    return server.usage().fds - brokers


def links(server: Server) -> list[str]:
    """What its descriptors are, to be shown."""
    found = []
    for process in server.processes():
        for link in Path(f"/proc/{process.pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found.append(str(link.readlink()))
        found += [str(each[3:]) for each in process.net_connections()]
    return sorted(found)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")).running() as server:
        yield server


@on_main
class TestChaos(OurServers):
    setups = EVERY if EVERYWHERE else tuple(each for each in EVERY if each.name not in LEFT_OUT)

    @pytest.mark.timeout(2 * SECONDS + 180)
    def test_nothing_is_lost_and_nothing_is_left_after_chaos(
        self, launch: Launch, setup: OurSetup, redis_server: RedisServer
    ) -> None:
        # Environments of their own have no broker.
        redis = redis_server if setup.environment is None else None
        url = redis.url if redis else "memory://"
        environ = {"LIVE_CONFIG": json.dumps({"SOCK_BROKER_URL": url})}
        if os.environ.get("FLASK_WS_CHAOS_DEV") == "1":
            environ |= DEV
        # Over TLS the crowd itself would be too busy with so many bytes.
        green = [name for name in ("gevent", "eventlet") if name in setup.name and not setup.tls]
        if green:
            environ["LIVE_TIMEOUT"] = f"{green[0]}:Timeout"
        # What a server logs of frames that it refuses is its own matter.
        ours = setup.capabilities.frames
        server = launch(environ=environ, check=ours)
        # As much before the level is taken: what is made once, and the most that the allocator
        # keeps. A leak grows with each round.
        crowd = Crowd(
            server,
            seconds=SECONDS,
            seed=100,
            redis=redis,
            interrupted=bool(green),
            turns=setup.turns,
        )
        crowd.run()
        settle(server)
        before = server.usage()
        threads, greenlets = server.threads(), server.greenlets()
        held = descriptors(server, redis)

        crowd = replace(crowd, seed=1, faults=[], counts=Counter())
        crowd.run()

        assert crowd.faults == []
        assert crowd.counts["messages"] > 100
        assert crowd.counts["requests"] >= 3
        settle(server)
        try:
            wait_until(lambda: descriptors(server, redis) <= held, timeout=15)
        except Timeout:
            pytest.fail(f"{descriptors(server, redis)} descriptors, {held} before: {links(server)}")
        # The reactor's look for something to do every five seconds.
        wait_until(lambda: server.threads() <= threads, timeout=15, what="threads to end")
        wait_until(lambda: server.greenlets() <= greenlets, timeout=15, what="greenlets to end")
        assert server.usage().rss - before.rss < SPARE_RSS
        if not ours:
            logged = [each.text for each in find_tracebacks(server.log.read())]
            assert [text for text in logged if "/src/flask_ws" in text] == []
