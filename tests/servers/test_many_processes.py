"""Publications between the processes of a server, by way of a Redis that is killed."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.support.redis import RedisServer
from tests.support.setups import GUNICORN
from tests.support.swarm import PATIENCE, Client, Publisher, Swarm

from flask_ws.testing import Capabilities, Setup
from flask_ws.testing.suite.base import make_certificate
from flask_ws.testing.suite.log import find_tracebacks
from flask_ws.testing.suite.process import Server, start, wait_until

from .ours import APPS

pytestmark = pytest.mark.timeout(240)

PROCESSES = 4
CLIENTS = 400
PUBLISHERS = 20
#: Clients that connect at the same time.
AT_ONCE = 40
CHANNELS = [f"channel{number}" for number in range(10)]

# A connection of HTTP stays with the process that has taken it, and so does its order.
MANY = Setup(
    name="gunicorn-many",
    command=f"{GUNICORN} --workers {PROCESSES} --threads 4 --keep-alive 60 many:app",
)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")).running() as server:
        yield server


@contextmanager
def starting(
    setup: Setup, redis_server: RedisServer, folder: Path, count: int = 1
) -> Iterator[list[Server]]:
    """Start servers, of whom no log has a traceback in the end."""
    certificate = make_certificate(folder / "certificate")
    environ = {"BROKER_URL": redis_server.url}
    servers: list[Server] = []
    with ExitStack() as stack:
        for number in range(count):
            place = folder / str(number)
            server = start(setup, folder=place, certificate=certificate, cwd=APPS, environ=environ)
            # How a script of greenlets ends by Ctrl-C is not what is tested here.
            stack.callback(server.stop if "gunicorn" in setup.command else server.kill)
            servers.append(server)
        yield servers
    for server in servers:
        assert not find_tracebacks(server.log.read())


@pytest.fixture(scope="module")
def many(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with starting(MANY, redis_server, tmp_path_factory.mktemp("many")) as (server,):
        server.log.find("LIVE loaded", count=PROCESSES, timeout=PATIENCE)
        yield server


@pytest.fixture
def swarm(many: Server) -> Iterator[Swarm]:
    swarm = Swarm(many)
    yield swarm
    swarm.close()


def subscribe_all(swarm: Swarm) -> None:
    """Each client to two channels; each process has some of the clients."""
    for first in range(0, CLIENTS, AT_ONCE):
        swarm.connect(
            (CHANNELS[number % 10], CHANNELS[(number // 10 + 1 + number) % 10])
            for number in range(first, first + AT_ONCE)
        )
    reach_processes(swarm, PROCESSES, (CHANNELS[0], CHANNELS[1]))


def reach_processes(
    swarm: Swarm, count: int, channels: tuple[str, ...], path: str = "/events/"
) -> None:
    """Connect more clients, until each process has some: the kernel wakes whichever is idle."""
    for _ in range(50):
        if len({client.pid for client in swarm.clients}) == count:
            return
        swarm.connect([channels] * 10, path)
    pytest.fail("a process gets no clients")


@pytest.fixture
def publishers(swarm: Swarm) -> Iterator[list[Publisher]]:
    """As many by HTTP as by sockets; two to a channel."""
    subscribe_all(swarm)
    publishers = [
        Publisher(
            swarm,
            f"publisher{number}",
            CHANNELS[number % 10],
            by=swarm.clients[number] if number % 2 else None,
        )
        for number in range(PUBLISHERS)
    ]
    yield publishers
    for publisher in publishers:
        publisher.close()


@contextmanager
def publishing(publishers: list[Publisher]) -> Iterator[None]:
    """All publish, each at its own pace, until the block is left."""
    enough = threading.Event()

    def publish(publisher: Publisher) -> None:
        while not enough.is_set():
            publisher.publish()
            enough.wait(0.02)

    with ThreadPoolExecutor(len(publishers)) as pool:
        futures = [pool.submit(publish, publisher) for publisher in publishers]
        try:
            yield
        finally:
            enough.set()
        for future in futures:
            future.result(PATIENCE)


def publish_each(publishers: list[Publisher], count: int) -> None:
    """Each publishes so many, all at once."""

    def publish(publisher: Publisher) -> None:
        for _ in range(count):
            assert publisher.publish()

    with ThreadPoolExecutor(len(publishers)) as pool:
        list(pool.map(publish, publishers))


def await_last(swarm: Swarm, publishers: list[Publisher]) -> None:
    """Wait until every client has the last publication of each that it is subscribed to."""

    def have_all() -> bool:
        return all(
            client.numbers.get(publisher.name, [-1])[-1] == publisher.done[-1]
            for client, publisher in subscriptions(swarm, publishers)
        )

    wait_until(have_all, timeout=PATIENCE, what="the last publications", every=0.05)


def subscriptions(swarm: Swarm, publishers: list[Publisher]) -> Iterator[tuple[Client, Publisher]]:
    for client in swarm.clients:
        if client.close_code is None:
            for publisher in publishers:
                if publisher.channel in client.channels:
                    yield client, publisher


def test_every_client_gets_every_publication_once_and_in_order(
    swarm: Swarm, publishers: list[Publisher]
) -> None:
    """Wherever it was published, by HTTP or by a socket."""
    publish_each(publishers, 40)
    await_last(swarm, publishers)
    for client, publisher in subscriptions(swarm, publishers):
        assert client.numbers[publisher.name] == publisher.done
    for client in swarm.clients:
        assert all(
            publisher.channel in client.channels
            for publisher in publishers
            if publisher.name in client.numbers
        )


def test_a_user_is_disconnected_in_all_processes(many: Server, swarm: Swarm) -> None:
    """The connections of others get what is published meanwhile."""
    swarm.connect([("others",)] * 2 * AT_ONCE)
    others = list(swarm.clients)
    for _ in range(50):
        swarm.connect([("others",)] * 5, "/users/ada/")
        users = [client for client in swarm.clients if client not in others]
        if len({client.pid for client in users}) == PROCESSES:
            break
    publisher = Publisher(swarm, "publisher", "others")
    with publishing([publisher]):
        assert int(many.get("/disconnect/ada").text) == len(users)
        wait_until(
            lambda: all(client.close_code == 4001 for client in users),
            timeout=PATIENCE,
            what="4001",
        )
    await_last(swarm, [publisher])
    for client in others:
        assert client.close_code is None
        assert client.numbers["publisher"] == publisher.done
    publisher.close()


def test_a_channel_has_one_order_in_all_processes(many: Server, swarm: Swarm) -> None:
    """Each publication by a connection of its own, so by whichever process, after the last."""
    for _ in range(200 // AT_ONCE):
        swarm.connect([("ordered",)] * AT_ONCE)
    reach_processes(swarm, PROCESSES, ("ordered",))
    publisher = Publisher(swarm, "publisher", "ordered")
    pids = set()
    for _ in range(200):
        assert publisher.publish()
        pids.add(publisher.pid)
        publisher.close()
    await_last(swarm, [publisher])
    assert len(pids) == PROCESSES
    for client in swarm.clients:
        assert client.numbers["publisher"] == publisher.done


def test_redis_is_killed_and_started_again(
    many: Server, redis_server: RedisServer, swarm: Swarm, publishers: list[Publisher]
) -> None:
    """Meanwhile nothing is lost within a process, and what reaches another is in order, and once.

    Afterwards every process has everything again, and its log one line about each.
    """
    beginning = many.log.size()
    with publishing(publishers):
        await_last_of_each(publishers, 10)
        redis_server.kill()
        many.log.find("broker is away", since=beginning, count=PROCESSES, timeout=PATIENCE)
        await_last_of_each(publishers, 10)
        redis_server.start()
        many.log.find("broker is back", since=beginning, count=PROCESSES, timeout=PATIENCE)
    first = {publisher.name: len(publisher.done) for publisher in publishers}
    publish_each(publishers, 10)
    await_last(swarm, publishers)
    for client, publisher in subscriptions(swarm, publishers):
        numbers = client.numbers[publisher.name]
        if client.pid == publisher.pid:
            assert numbers == publisher.done
        else:
            # What was lost on its way is missing, and no more than that.
            assert numbers == sorted(set(numbers))
            assert numbers[-10:] == publisher.done[first[publisher.name] :]
    lines = re.findall(r"WARNING (\d+) The broker is (away|back)", many.log.read(beginning))
    for pid in {client.pid for client in swarm.clients}:
        assert [state for found, state in lines if int(found) == pid] == ["away", "back"]


def await_last_of_each(publishers: list[Publisher], count: int) -> None:
    """Wait until each has published so many more."""
    before = [len(publisher.done) for publisher in publishers]
    wait_until(
        lambda: all(
            len(publisher.done) >= number + count
            for publisher, number in zip(publishers, before, strict=True)
        ),
        timeout=PATIENCE,
        what="the publishers",
    )


def test_a_client_that_does_not_read_delays_no_other(many: Server, swarm: Swarm) -> None:
    """It is closed at last; the others get theirs as fast as before."""
    swarm.connect([("large",)] * 20)
    publisher = Publisher(swarm, "publisher", "large")
    alone = measure(swarm, publisher)
    beginning = many.log.size()
    with many.connect("/events/large", receive_buffer=4096) as stalled:
        assert str(stalled.read()).startswith("ready")
        beside = measure(swarm, publisher)
        many.log.find("reads too slowly", since=beginning, timeout=PATIENCE)
    publisher.close()
    # A publication that had waited for that client would have taken seconds.
    assert beside < max(10 * alone, 0.5), (alone, beside)


def measure(swarm: Swarm, publisher: Publisher) -> float:
    """Publish what fills any buffer; return the 99th percentile of the seconds it took."""
    swarm.latencies.clear()

    def await_publications(number: int) -> None:
        expected = number * len(swarm.clients)
        wait_until(
            lambda: len(swarm.latencies) >= expected,
            timeout=PATIENCE,
            what="the deliveries",
            every=0.001,
        )

    for number in range(200):
        assert publisher.publish("x" * 20_000)
        # On a busy machine the swarm itself may be slow to read; it must not be given up for that.
        await_publications(number - 5)
    await_publications(200)
    return sorted(swarm.latencies)[len(swarm.latencies) * 99 // 100]


def test_workers_are_replaced_under_load(many: Server, swarm: Swarm) -> None:
    """Clients are told to leave, come back to the new workers, and get all that follows."""
    swarm.on_end = lambda client: swarm.add(client.channels)
    subscribe_all(swarm)
    old = {client.pid for client in swarm.clients}
    publishers = [
        Publisher(swarm, f"publisher{number}", channel) for number, channel in enumerate(CHANNELS)
    ]
    with publishing(publishers):
        await_last_of_each(publishers, 5)
        many.signal(signal.SIGHUP)

        def are_replaced() -> bool:
            connected = [client for client in swarm.clients if client.close_code is None]
            return len(connected) == CLIENTS and not any(
                client.pid in old or client.pid == 0 for client in connected
            )

        wait_until(are_replaced, timeout=PATIENCE, what="the new workers' clients", every=0.05)
    publish_each(publishers, 10)
    await_last(swarm, publishers)
    for client, publisher in subscriptions(swarm, publishers):
        assert client.numbers[publisher.name][-10:] == publisher.done[-10:]
    assert {client.close_code for client in swarm.clients} == {None, 1001}
    for client in swarm.clients:
        for numbers in client.numbers.values():
            assert len(numbers) == len(set(numbers))
    for publisher in publishers:
        publisher.close()


KINDS = (
    Setup(
        name="threads-preload",
        command=f"{GUNICORN} --workers 2 --threads 4 --preload many:app",
        capabilities=Capabilities(processes=2),
    ),
    # What --preload has loaded, each worker patches only now.
    Setup(
        name="gevent-preload",
        command=f"{GUNICORN} --workers 2 --worker-class gevent --preload many:app",
        capabilities=Capabilities(processes=2),
    ),
    Setup(
        name="gevent-unpatched",
        command="python many.py gevent {port}",
    ),
    Setup(
        name="eventlet-unpatched",
        command="python many.py eventlet {port}",
    ),
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_other_kinds_of_processes_reach_each_other(
    kind: Setup, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Event views and handlers; and again after Redis was killed."""
    each = kind.capabilities.processes
    with starting(kind, redis_server, tmp_path, 2 // each) as servers:
        swarms = [Swarm(server) for server in servers]
        try:
            for swarm in swarms:
                swarm.connect([("news",)] * 10)
                swarm.connect([("news",)] * 10, "/handler/")
                reach_processes(swarm, each, ("news",))
            clients = [client for swarm in swarms for client in swarm.clients]
            by_pid = {client.pid: client for client in clients}
            assert len(by_pid) == 2
            reach_all(swarms, clients, by_pid)
            redis_server.kill()
            await_lines(servers, "broker is away")
            redis_server.start()
            await_lines(servers, "broker is back")
            reach_all(swarms, clients, by_pid)
        finally:
            for swarm in swarms:
                swarm.close()


def reach_all(swarms: list[Swarm], clients: list[Client], by_pid: dict[int, Client]) -> None:
    """Publish in each process, and see every client get it."""
    for pid, client in by_pid.items():
        swarm = next(swarm for swarm in swarms if client in swarm.clients)
        name = f"from{pid}"
        before = len(client.numbers.get(name, ()))
        assert swarm.publish(client, "news", f"{name} {before} {time.monotonic()}")
        wait_until(
            lambda name=name, before=before: all(  # type: ignore[misc]
                client.numbers.get(name) == [*range(before + 1)] for client in clients
            ),
            timeout=PATIENCE,
            what="the publication",
        )


def await_lines(servers: list[Server], line: str) -> None:
    for server in servers:
        server.log.find(line, count=2 // len(servers), timeout=PATIENCE)
