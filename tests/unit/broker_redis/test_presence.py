"""Who is there, on a real Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from tests.support import brokers
from tests.support.attendance import Member, PresenceOnServer, end_processes
from tests.support.brokers import OpenProcess
from tests.support.redis import RedisServer, running_cluster
from tests.support.waiting import until

from flask_ws import BrokerError, Lease
from flask_ws_redis import flask_ws_open_broker
from flask_ws_redis.keys import find_slot, key_of, lease_key

__all__ = ["end_processes"]

pytestmark = pytest.mark.xdist_group("test_broker_redis")

ROOM = b"flask_ws:\x1fpresence:room"


@pytest.fixture
def open_process() -> Iterator[OpenProcess]:
    with brokers.opening(flask_ws_open_broker) as open_process:
        yield open_process


@pytest.fixture
def url(server: RedisServer) -> str:
    with contextlib.closing(server.client()) as client:
        client.flushall()
    return server.url


class TestServer(PresenceOnServer):
    @pytest.fixture
    def port(self, server: RedisServer) -> int:
        return server.port

    @pytest.fixture
    def url_at(self) -> Callable[[int], str]:
        return "redis://127.0.0.1:{}".format


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Two servers."""
    servers = [RedisServer(tmp_path_factory.mktemp("redis")) for _ in range(2)]
    with running_cluster(*servers):
        yield servers


def give(channel: bytes, server: RedisServer, cluster: list[RedisServer]) -> None:
    """Have a channel be at a server of the cluster."""
    for one in cluster:
        with contextlib.closing(one.client()) as client:
            client.execute_command("CLUSTER SETSLOT", key_slot(channel), "NODE", server.name)


@pytest.mark.usefixtures("end_processes")
def test_on_a_cluster_too(cluster: list[RedisServer]) -> None:
    """Where channels, and leases, are at different servers."""
    rooms = [f"room {number}" for number in range(8)]
    for number, room in enumerate(rooms):
        give(ROOM + room[4:].encode(), cluster[number // 2 % 2], cluster)
    url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    one, other = Member(url), Member(url)
    watchers = [other.watch(room) for room in rooms]
    for number, room in enumerate(rooms):
        (one, other)[number % 2].join(room, "7")
    assert [other.read(room) for room in rooms] == [{"7": [{}]}] * 8
    one.kill()
    for number, watcher in enumerate(watchers):
        until(lambda: len(watcher.got) == 3 - number % 2)  # noqa: B023
    assert [other.read(room) for room in rooms] == [{}, {"7": [{}]}] * 4


def test_a_lease_is_held_at_the_servers_that_can_be_reached(
    cluster: list[RedisServer], open_process: OpenProcess
) -> None:
    """The last test of the cluster: one of its servers is killed."""
    names = [b"here", b"gone", b"there"]
    for name, server in zip(names, (cluster[0], cluster[1], cluster[0]), strict=True):
        give(name, server, cluster)
    broker = open_process(f"redis+cluster://127.0.0.1:{cluster[0].port}").broker
    lease, channels = Lease("lease", 1), [name.decode() for name in names]
    assert broker.renew_lease(lease, 1.0, channels) == channels
    cluster[1].kill()
    # Whichever comes first.
    for order in (channels, channels[::-1]):
        with pytest.raises(BrokerError):
            broker.renew_lease(lease, 60.0, order)
    with contextlib.closing(cluster[0].client()) as client:
        for name in (b"here", b"there"):
            assert client.ttl(lease_key(find_slot(name), "lease")) > 50


def states(*members: Member) -> set[str]:
    """Return what processes say of their broker."""
    return {str(member.channels.stats()["broker"]) for member in members}


@pytest.mark.usefixtures("end_processes")
def test_a_redis_that_was_restarted_empty_is_told_again(tmp_path: Path) -> None:
    """And those who watch are told nothing."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        one, other = Member(server.url), Member(server.url)
        watcher = other.watch("room")
        one.join("room", "7")
        other.join("room", "8")
        until(lambda: len(watcher.got) == 3)
        server.kill()
        until(lambda: states(one, other) == {"away"})
        server.start()
        until(lambda: states(one, other) == {"connected"})
        until(lambda: one.read("room") == {"7": [{}], "8": [{}]})
        one.join("room", "9")
        until(lambda: len(watcher.got) == 4)
        assert watcher.take() == [("state", {}), ("join", "7"), ("join", "8"), ("join", "9")]
    finally:
        server.kill()


@pytest.mark.usefixtures("end_processes")
def test_all_keys_expire(server: RedisServer, url: str) -> None:
    process = Member(url, lease=15)
    process.join("room", "7")
    with contextlib.closing(server.client()) as client:
        keys = set(client.keys("*"))
        assert key_of(ROOM, b"p") in keys
        assert 3500 < client.ttl(key_of(ROOM, b"p")) <= 3600
        (lease,) = keys - {key_of(ROOM, b"p")}
        assert 0 < client.ttl(lease) <= 9


@pytest.mark.usefixtures("end_processes")
def test_to_join_is_one_command(server: RedisServer, url: str) -> None:
    """After the first of the process."""
    process = Member(url, lease=15)
    process.join("room", "7")
    keeper = process.channels.attendance.open().keeper
    until(lambda: not keeper._changed and keeper._lease.next_round)
    with contextlib.closing(server.client()) as client:
        client.config_resetstat()
        for number in range(10):
            process.join("room", str(number))
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 10


@pytest.mark.usefixtures("end_processes")
def test_the_permissions_of_the_docs_suffice(server: RedisServer, url: str) -> None:
    """To join, to watch, to ask, and to outlive others."""
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text()
    lines = [line.partition("app on >password ")[2] for line in text.splitlines()]
    rules = [rule for line in lines for rule in line.split()]
    rules += text.partition("With presence also:\n\n```text\n")[2].partition("\n```")[0].split()
    with contextlib.closing(server.client()) as client:
        client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">password", *rules)
    url = f"redis://app:password@127.0.0.1:{server.port}"
    one, other = Member(url), Member(url)
    watcher = other.watch("room")
    one.join("room", "7")
    assert one.read("room") == {"7": [{}]}
    one.kill()
    until(lambda: watcher.got[-1]["event"] == "leave")


@pytest.mark.parametrize(
    "channel",
    [b"news", b"{a}b", b"a{b}c", b"a}b", b"a{}b", b"a{}b{c}", b"a{b", b"}{", b"}{a}", b"{}", b"%"],
)
def test_what_belongs_to_a_channel_is_in_its_slot(channel: bytes) -> None:
    """The leases of its members, too."""
    keys = [
        key_of(channel, b"p"),
        lease_key(find_slot(channel), "flask_ws:lease:1"),
        lease_key(find_slot(channel), "{app}:lease:1"),
    ]
    assert {key_slot(key) for key in keys} == {key_slot(channel)}
