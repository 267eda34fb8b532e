"""Channels that remember, on a real Redis: what survives which failure."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot
from tests.support import brokers
from tests.support.brokers import OpenProcess
from tests.support.histories import (
    GAP,
    HistoriesOnServer,
    Open,
    is_away,
    opening,
    publish_until_taken,
    run_machine,
    subscribe,
)
from tests.support.redis import RedisServer, running_cluster
from tests.support.waiting import until

from flask_ws import Broker, BrokerError, Retention
from flask_ws.channels.channels import Channels
from flask_ws_redis import flask_ws_open_broker
from flask_ws_redis.history import history_keys

pytestmark = pytest.mark.xdist_group("test_broker_redis")

PLENTY = Retention(100, 600)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Three servers, of which one has all channels at first."""
    servers = [
        # What has no channel any more stays what it is, and does not follow another.
        RedisServer(tmp_path_factory.mktemp("redis"), "--cluster-allow-replica-migration", "no")
        for _ in range(3)
    ]
    with running_cluster(*servers):
        yield servers


@pytest.fixture
def open_process() -> Iterator[OpenProcess]:
    with brokers.opening(flask_ws_open_broker) as open_process:
        yield open_process


@pytest.fixture
def open_() -> Iterator[Open]:
    with opening() as open_:
        yield open_


def url_of(port: int) -> str:
    return f"redis://127.0.0.1:{port}"


# Processes


class TestServer(HistoriesOnServer):
    @pytest.fixture
    def port(self, server: RedisServer) -> int:
        return server.port

    @pytest.fixture
    def url_at(self) -> Callable[[int], str]:
        return url_of


def test_a_redis_that_was_restarted_empty_is_a_gap(
    tmp_path_factory: pytest.TempPathFactory, open_: Open
) -> None:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        here = open_(url_of(server.port))
        connection = subscribe(here, "news")
        position = here.publish("news", "before").position
        until(lambda: connection.got == ["before"])
        server.kill()
        until(lambda: is_away(here))
        server.start()
        until(lambda: connection.got == ["before", GAP])
        publish_until_taken(here, "news", "after")
        until(lambda: connection.got == ["before", GAP, "after"])
        assert subscribe(here, "news", position).got == [GAP, "after"]
    finally:
        server.kill()


# The server


def test_all_keys_expire(server: RedisServer, open_: Open) -> None:
    channels = open_(url_of(server.port))
    channels.publish("expiring", "a")
    with contextlib.closing(server.client()) as client:
        stream, state = history_keys(b"flask_ws:expiring")
        # A minute more than is kept: until then this process need not have them expire later.
        assert 600 < client.ttl(stream) <= 660
        assert 86400 + 600 < client.ttl(state) <= 86400 + 660


@pytest.mark.parametrize("number", [0, 1])
def test_a_key_that_was_evicted_does_not_come_back_without_an_end(
    server: RedisServer, open_: Open, number: int
) -> None:
    channels = open_(url_of(server.port))
    channels.publish("evicted", "a")
    with contextlib.closing(server.client()) as client:
        keys = history_keys(b"flask_ws:evicted")
        client.delete(keys[number])
        channels.publish("evicted", "b")
        assert min(map(client.ttl, keys)) > 600


def test_keys_expire_later_while_messages_are_published(
    server: RedisServer, open_process: OpenProcess
) -> None:
    """Also where each is published soon after the one before it."""
    broker = open_process(url_of(server.port)).broker
    retention = Retention(100, 0.4)
    stream, state = history_keys(b"later")
    first = broker.publish_kept("later", b"", retention)
    with contextlib.closing(server.client()) as client:
        began = client.pexpiretime(state.decode())

        def is_later() -> bool:
            assert broker.publish_kept("later", b"", retention).epoch == first.epoch
            return bool(client.pexpiretime(state.decode()) > began + 800)

        until(is_later)
        assert 0 < client.pttl(stream) <= 600


def test_a_server_that_has_forgotten_the_scripts_is_told_them_again(
    server: RedisServer, open_: Open
) -> None:
    channels = open_(url_of(server.port))
    assert channels.publish("scripts", "a")
    with contextlib.closing(server.client()) as client:
        client.script_flush()
    assert channels.publish("scripts", "b")


def test_the_permissions_of_the_docs_suffice(server: RedisServer, open_: Open) -> None:
    """To publish, to keep, and to read."""
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
    lines = [line.partition("app on >password ")[2] for line in text.splitlines()]
    rules = [rule for line in lines for rule in line.split()]
    rules += text.partition("With histories also:\n\n```text\n")[2].partition("\n```")[0].split()
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">password", *rules)
    channels = Channels(
        {
            "SOCK_BROKER_URL": f"redis://app:password@127.0.0.1:{server.port}",
            "SOCK_HISTORY": {"*": (100, 600)},
        }
    )
    connection = subscribe(channels, "allowed", "all")
    assert channels.publish("allowed", "a")
    until(lambda: connection.got == ["a"])


@pytest.mark.parametrize(
    "channel",
    [b"news", b"{a}b", b"a{b}c", b"a}b", b"a{}b", b"a{}b{c}", b"a{b", b"}{", b"}{a}", b"{}", b"%"],
)
def test_the_keys_of_a_channel_are_in_its_slot(channel: bytes) -> None:
    assert {key_slot(key) for key in history_keys(channel)} == {key_slot(channel)}


def test_no_two_channels_share_a_key() -> None:
    parts = [b"", b"a", b"{", b"}", b"{a}", b":h1", b"%7B"]
    names = {one + two + three for one in parts for two in parts for three in parts}
    keys = [key for name in names for key in history_keys(name)]
    assert len(keys) == len(set(keys))


def test_a_redis_that_had_hung_takes_nothing_late(
    tmp_path: Path, open_process: OpenProcess
) -> None:
    """Its publisher has been told that it failed, and its subscribers have it already."""
    with RedisServer(tmp_path).running() as server:
        broker = open_process(f"{url_of(server.port)}?socket_timeout=0.4").broker
        before = broker.publish_kept("late", b"before", PLENTY)
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(BrokerError, match="Timeout"):
                broker.publish_kept("late", b"late", PLENTY)
        finally:
            server.signal(signal.SIGCONT)
        with contextlib.closing(server.client()) as client:
            # It does what it was sent in the order in which it came.
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 2
        assert open_process(url_of(server.port)).broker.read_history("late", PLENTY) == (before, [])


def test_a_redis_that_hangs_for_a_moment_costs_nothing(
    tmp_path: Path, open_process: OpenProcess
) -> None:
    """What it refuses since it is late, and somebody waits for, is sent again."""
    with RedisServer(tmp_path).running() as server:
        broker: Any = open_process(f"{url_of(server.port)}?socket_timeout=8").broker
        broker._clock._wait = 0.2
        before = broker.publish_kept("moment", b"before", PLENTY)
        server.signal(signal.SIGSTOP)
        waking = threading.Timer(0.5, server.signal, (signal.SIGCONT,))
        waking.start()
        after = broker.publish_kept("moment", b"after", PLENTY)
        waking.join()
        assert after == (before.epoch, before.offset + 1)


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_was_set_costs_nothing(
    server: RedisServer, open_process: OpenProcess, seconds: int
) -> None:
    broker: Any = open_process(url_of(server.port)).broker
    before = broker.publish_kept("clock", b"", PLENTY)
    broker._clock._ahead += seconds
    assert broker.publish_kept("clock", b"", PLENTY) == (before.epoch, before.offset + 1)
    assert abs(broker._clock._ahead - (time.time() - time.monotonic())) < 5


def test_what_is_refused_again_and_again_is_an_error(
    server: RedisServer, open_process: OpenProcess
) -> None:
    broker: Any = open_process(url_of(server.port)).broker
    broker._clock._wait = -1.0
    with pytest.raises(BrokerError, match="too late"):
        broker.publish_kept("refused", b"", PLENTY)
    broker._clock._wait = 1.0
    until(lambda: _is_taken(broker, "refused"))


def _is_taken(broker: Broker, channel: str) -> bool:
    try:
        broker.publish_kept(channel, b"", PLENTY)
    except BrokerError:
        return False
    return True


# The machine on paper


@pytest.mark.parametrize("seed", range(10))
def test_no_hole_nothing_twice_or_a_gap_on_redis(
    server: RedisServer, open_process: OpenProcess, seed: int
) -> None:
    broker = open_process(f"{url_of(server.port)}/5").broker
    with contextlib.closing(server.client()) as client:
        client.select(5)
        run_machine(seed, broker, client.flushdb)


@pytest.mark.parametrize("seed", range(6))
def test_no_hole_nothing_twice_or_a_gap_on_a_cluster(
    cluster: list[RedisServer], open_process: OpenProcess, seed: int
) -> None:
    """Also where the channel moves from server to server."""
    broker = open_process(f"redis+cluster://127.0.0.1:{cluster[0].port}").broker
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(one.client())) for one in cluster]
        slot = key_slot(b"flask_ws:news")
        names = itertools.cycle([server.name for server in cluster])

        def move() -> None:
            """Empty all, and give the channel to the next one."""
            name = next(names)
            for client in clients:
                client.flushall()
            for client in clients:
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)

        run_machine(seed, broker, move)
