"""A user's connections that are ended while others chat; and rechecks of many connections.

    python -m benchmarks.identity
    python -m benchmarks.identity --chatting 200 --idle 2000

The first part has four workers, and needs a redis-server. Five connections of one user, in all of
the workers, are ended by a request to one of them; 1,000 others send a message every two seconds.
The second part has 10,000 connections, each of whose users is looked at every ten seconds, or not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

from benchmarks.contenders import Contender
from benchmarks.loads import percentile
from benchmarks.loads.idle import Crowd, paced
from benchmarks.report import table
from benchmarks.serving import Place, free_port, serving
from benchmarks.wire import CLOSE, HOST, Connection, connect

TABS = 5
WORKERS = 4
#: The goals: seconds until the last connection is told, and of the p99 to what it was.
KICK_GOAL = 1.0
KICK_P99_GOAL = 1.5
RECHECK_GOAL = 1.5
SECONDS = 4.0
EACH_PER_SECOND = 0.5
RECHECK_SECONDS = "10"


def contender(workers: int, env: dict[str, str]) -> Contender:
    """Return the server of the app."""
    command = (
        "{python} -m gunicorn -b 127.0.0.1:{port} --no-control-socket --log-level warning "
        f"--workers {workers} --threads 4 --backlog 4096 benchmarks.apps.identity_app:app"
    )
    return Contender("flask-ws", "gunicorn", command, (), env=env)


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Run a Redis; yields its URL."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield f"redis://{HOST}:{port}"
        finally:
            process.terminate()
            process.wait(10)


def open_tabs(port: int) -> list[Connection]:
    """Open a user's connections, until all workers have some of them."""
    tabs: list[Connection] = []
    workers: set[bytes] = set()
    for _ in range(200):
        tab = connect(port, "/echo?who=kicked")
        worker = tab.receive_message()
        if worker not in workers or len(tabs) - len(workers) < TABS - WORKERS:
            workers.add(worker)
            tabs.append(tab)
        else:
            tab.close()
        if len(tabs) == TABS and len(workers) == WORKERS:
            return tabs
    raise SystemExit("The connections did not reach all workers.")


def kick(port: int, tabs: list[Connection], delay: float, found: list[tuple[int, float]]) -> None:
    """End a user's connections; note their close codes, and when they came."""
    time.sleep(delay)
    began = time.monotonic()
    request = http.client.HTTPConnection(HOST, port, timeout=10)
    request.request("POST", "/kick")
    request.getresponse().read()
    for tab in tabs:
        first, payload = tab.receive_frame()
        while first != 0x80 | CLOSE:
            first, payload = tab.receive_frame()
        found.append((int.from_bytes(payload[:2], "big"), time.monotonic() - began))


def measure_kick(place: Place, chatting: int) -> bool:
    """End a user's connections while others chat."""
    with (
        redis() as url,
        serving(contender(WORKERS, {"BROKER_URL": url}), place, sys.executable) as (port, _),
    ):
        crowd, others = Crowd(), []
        for number in range(chatting):
            others.append(connect(port, f"/echo?who={number}"))
            crowd.add(others[-1])
        paced(crowd, others, SECONDS, EACH_PER_SECOND)
        tabs = open_tabs(port)
        before = paced(crowd, others, SECONDS, EACH_PER_SECOND)
        found: list[tuple[int, float]] = []
        thread = threading.Thread(target=kick, args=(port, tabs, SECONDS / 2, found))
        thread.start()
        beside = paced(crowd, others, SECONDS, EACH_PER_SECOND)
        thread.join()
    told = max(seconds for _, seconds in found)
    p99 = [percentile(sorted(times), 99) * 1000 for times in (before, beside)]
    codes = {code for code, _ in found}
    rows = [
        ["told", f"{len(found)} of {TABS}, with {codes}, the last after {told * 1000:.0f} ms"],
        ["echo p99 of the others", f"before {p99[0]:.1f} ms, beside it {p99[1]:.1f} ms"],
    ]
    print(f"\n### A user's {TABS} connections end in {WORKERS} workers; {chatting} others chat\n")
    print(table(["", ""], rows, words=2))
    return codes == {4001} and told <= KICK_GOAL and p99[1] <= KICK_P99_GOAL * p99[0]


def measure_rechecks(place: Place, idle: int) -> bool:
    """Compare the echo of one connection beside many whose users are looked at, or are not."""
    p99 = {}
    for name, env in (("without", {}), ("with", {"RECHECK_SECONDS": RECHECK_SECONDS})):
        with serving(contender(1, env), place, sys.executable) as (port, _):
            crowd, lone = Crowd(), connect(port, "/echo?who=me")
            crowd.add(lone)
            # With it as many as a process admits by default.
            for number in range(1, idle):
                crowd.add(connect(port, f"/echo?who={number}"))
            # One round, after which the rechecks are spread over the time.
            crowd.tend(float(RECHECK_SECONDS))
            p99[name] = percentile(sorted(paced(crowd, [lone], 2 * SECONDS, 200)), 99) * 1000
    rows = [[name, f"{value:.2f} ms"] for name, value in p99.items()]
    rate = idle / float(RECHECK_SECONDS)
    print(f"\n### Echo p99 beside {idle} connections, {rate:g} of them rechecked a second\n")
    print(table(["rechecks", "p99"], rows, words=1))
    return p99["with"] <= RECHECK_GOAL * p99["without"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chatting", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--urgent", action="store_true", help="raise the priority (root only)")
    options = parser.parse_args()
    place = Place(None, None, options.urgent)
    place.prepare(None)()
    met = [measure_kick(place, options.chatting), measure_rechecks(place, options.idle)]
    print("\nAll goals are met." if all(met) else "\nA goal is missed.")
    return not all(met)


if __name__ == "__main__":
    sys.exit(main())
