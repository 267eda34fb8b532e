from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import redis
from tests.support.brokers import (
    OpenProcess,
    check_child,
    check_no_password_in_error,
    check_refusal_in_words,
    check_return_from_the_dead,
    opening,
    publish_until_received,
)
from tests.support.locks import Watch
from tests.support.memory import in_thread
from tests.support.redis import RedisServer

from flask_ws import BrokerError, BrokerWish, Options
from flask_ws.channels.channels import Channels
from flask_ws.channels.settings import MAX_NAME_SIZE
from flask_ws.testing import BrokerSuite
from flask_ws.testing.brokers import PATIENCE
from flask_ws.testing.suite.base import make_certificate
from flask_ws.testing.suite.process import Certificate, wait_until
from flask_ws_redis import flask_ws_open_broker
from flask_ws_redis.settings import Settings

# They share servers.
pytestmark = pytest.mark.xdist_group("test_broker_redis")

StartRedis = Callable[..., RedisServer]


@pytest.fixture(scope="module")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    servers: list[RedisServer] = []

    def start(
        *options: str, cluster_of: Iterable[RedisServer] | None = None, **arguments: Any
    ) -> RedisServer:
        server = RedisServer(tmp_path_factory.mktemp("redis"), *options, **arguments)
        if cluster_of is not None:
            server.be_cluster(*cluster_of)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def shared(start_redis: StartRedis) -> RedisServer:
    """One that no test kills."""
    return start_redis()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def shared_cluster(start_redis: StartRedis) -> RedisServer:
    """One that no test kills."""
    return start_redis(cluster_of=())


@pytest.fixture
def open_process() -> Iterator[OpenProcess]:
    with opening(flask_ws_open_broker) as open_process:
        yield open_process


# The suite for brokers


class TestServer(BrokerSuite):
    unreachable_url = "redis://127.0.0.1:1"

    @pytest.fixture(autouse=True)
    def set_url(self, shared: RedisServer) -> None:
        self.url = f"redis://127.0.0.1:{shared.port}/3"


class TestTls(BrokerSuite):
    unreachable_url = "rediss://127.0.0.1:1"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def set_url(cls, start_redis: StartRedis, certificate: Certificate) -> None:
        server = start_redis(certificate=certificate)
        cls.url = f"rediss://localhost:{server.port}?ssl_ca_certs={certificate.authority}"


@pytest.mark.unix
class TestUnixSocket(BrokerSuite):
    unreachable_url = "unix:///nowhere.sock"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def set_url(cls, start_redis: StartRedis) -> None:
        server = start_redis("--unixsocket", "s", "--requirepass", "a:b@c")
        cls.url = f"unix://:a%3Ab%40c@{server.folder / 's'}"


class TestCluster(BrokerSuite):
    unreachable_url = "redis+cluster://127.0.0.1:1,127.0.0.1:2"

    @pytest.fixture(autouse=True)
    def set_url(self, shared_cluster: RedisServer) -> None:
        self.url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{shared_cluster.port}"


# URLs


@pytest.mark.parametrize("url", ["nats://localhost", "redisx://localhost", "memory://"])
def test_other_schemes_are_left_to_others(url: str) -> None:
    assert flask_ws_open_broker(url) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://", "localhost:6379"),
        ("redis://user:secret@example.com:1/2", "example.com:1"),
        ("rediss://:secret@example.com", "example.com:6379"),
        ("unix://:secret@/run/redis.sock?db=1", "/run/redis.sock"),
        (
            "redis+cluster://:secret@one,two:2,three?health_check_interval=3",
            "one:6379,two:2,three:6379",
        ),
        ("rediss+cluster://one:1", "one:1"),
    ],
)
def test_a_redis_is_named_by_its_place(url: str, name: str) -> None:
    assert Settings.from_url(url).name == name


def test_what_the_url_says_goes_before_our_defaults() -> None:
    settings = Settings.from_url("redis://user:pass@h:1/2?socket_timeout=7&client_name=me")
    expected = {"host": "h", "port": 1, "db": 2, "socket_timeout": 7.0, "client_name": "me"}
    expected |= {"socket_connect_timeout": 1.0}
    assert expected.items() <= settings.arguments.items()
    assert settings.arguments["credential_provider"].get_credentials() == ("user", "pass")


@pytest.mark.parametrize(
    "url",
    [
        # Each is as people write them who have a password with such a character.
        "redis://:QWX/ZJK@h",
        "redis://:QWX?ZJK@h",
        "redis://:QWX#ZJK@h",
        "redis://:1/QWXZJK@h",
        "redis://:1?QWXZJK=@h",
        "redis://:1#QWXZJK@h",
        "redis://:a@b/QWXZJK@h",
        "redis://:QWX[ZJK@h",
        "rediss://me:QWX/ZJK@h",
        "redis+cluster://:QWX/ZJK@h,k",
        "redis+cluster://:1?QWXZJK=@h,k",
        "unix://:QWX/ZJK@/run/redis.sock",
        "unix://:a@b/QWXZJK@/run/redis.sock",
        "redis://:QWX%2FZJK@h?nonsense=1",
        "redis://h?password=QWX/ZJK&nonsense=1",
    ],
)
def test_no_part_of_a_password_is_in_an_error(url: str) -> None:
    check_no_password_in_error(flask_ws_open_broker, url)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster"])
def test_no_password_is_in_the_text_of_anything(scheme: str, open_process: OpenProcess) -> None:
    """Such texts end up in error reports, with the local variables of each frame."""
    url = f"{scheme}://me:secret@127.0.0.1:1"
    settings = Settings.from_url(url)
    broker = open_process(url).broker
    seen = [settings, settings.arguments, settings.make_connection(), broker, vars(broker)]
    parts = [vars(broker)[name] for name in ("_topology", "_placer") if name in vars(broker)]
    seen += [*parts, *map(vars, parts)]
    client: Any = getattr(broker, "_client", None)
    if client is not None:
        seen += [client._client, client._client.connection_pool, vars(client)]
    assert "secret" not in "".join(map(repr, seen))


@pytest.mark.parametrize(
    ("url", "in_words"),
    [
        ("redis://:secret@h?sokcet_timeout=1", "sokcet_timeout"),
        ("redis://:secret@h?socket_timeout=soon", "socket_timeout"),
        ("redis://:secret@h?decode_responses=true", "decode_responses"),
        ("redis://:secret@h?retry_on_timeout=true", "retry_on_timeout"),
        ("redis+cluster://:secret@h/2", "databases"),
        ("redis://:secret@h:port", "port"),
        ("redis:secret", "redis://"),
    ],
)
def test_a_wrong_url_is_refused_in_words_without_its_password(url: str, in_words: str) -> None:
    check_refusal_in_words(flask_ws_open_broker, url, in_words)


@pytest.mark.parametrize(
    ("query", "checked"),
    [("", True), ("?ssl_check_hostname=false", False), ("?ssl_cert_reqs=none", False)],
)
def test_the_name_in_a_certificate_is_checked_unless_told_otherwise(
    query: str, checked: bool
) -> None:
    assert Settings.from_url(f"rediss://h{query}").arguments["ssl_check_hostname"] is checked


# Connections


def test_a_process_has_one_connection_to_listen_on(
    start_redis: StartRedis, open_process: OpenProcess
) -> None:
    server = start_redis()
    open_process(server.url, *"abcdef")
    with contextlib.closing(server.client()) as client:
        assert len(client.client_list(_type="pubsub")) == 1


def test_a_process_that_only_publishes_has_no_thread(
    shared: RedisServer, open_process: OpenProcess
) -> None:
    before = threading.active_count()
    open_process(shared.url).broker.publish("a", b"")
    assert threading.active_count() == before


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_nothing_is_left_open(
    start_redis: StartRedis, shared_cluster: RedisServer, open_process: OpenProcess, scheme: str
) -> None:
    server = start_redis() if scheme == "redis" else shared_cluster
    gc.collect()
    before = psutil.Process().num_fds()
    process = open_process(f"{scheme}://127.0.0.1:{server.port}", "a")
    process.broker.publish("a", b"payload")
    process.await_payload(b"payload")
    process.broker.close()
    # What other tests have left may come and go.
    wait_until(lambda: psutil.Process().num_fds() <= before, what="its descriptors to be closed")
    with contextlib.closing(server.client()) as client:
        wait_until(lambda: len(client.client_list()) == 1, what="Redis to see it")


def test_a_subscription_takes_little_memory(shared: RedisServer, open_process: OpenProcess) -> None:
    """Clients may make many, and wait for all of them to be confirmed."""
    process = open_process(shared.url, "a")
    names = [f"channel {number}" for number in range(1000)]
    tracemalloc.start()
    try:
        for name in names:
            process.broker.subscribe(name)
        process.broker.publish("a", b"payload")
        process.await_payload(b"payload")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(names) < 500


def test_subscriptions_take_at_most_what_the_docs_say(shared: RedisServer) -> None:
    """All that there can be, and the longest names; in flask-ws and in the broker."""

    class Connection:
        def check_connected(self) -> None:
            pass

    channels = Channels({"SOCK_BROKER_URL": shared.url})
    channels.subscribe(Connection(), "first", limit=1)  # type: ignore[arg-type]
    connections = [Connection() for _ in range(4)]
    limit = Options().max_subscriptions
    tracemalloc.start()
    try:
        for number, connection in enumerate(connections):
            for other in range(limit):
                name = f"{number} {other} ".ljust(MAX_NAME_SIZE, "x")
                channels.subscribe(connection, name, limit=limit)  # type: ignore[arg-type]
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        channels.close()
    assert taken / len(connections) / limit < 1500


def test_a_large_message_is_awaited_to_its_end(
    shared: RedisServer, open_process: OpenProcess
) -> None:
    receiver = open_process(shared.url, "a")
    payload = os.urandom(3_000_000)
    open_process(shared.url).broker.publish("a", payload)
    receiver.await_payload(payload)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_name_that_has_no_utf8_costs_nobody_else_anything(
    start_redis: StartRedis, open_process: OpenProcess, scheme: str
) -> None:
    server = start_redis(cluster_of=() if scheme == "redis+cluster" else None)
    url = f"{scheme}://127.0.0.1:{server.port}"
    receiver, publisher = open_process(url, "a"), open_process(url)
    with pytest.raises(ValueError, match="surrogates"):
        receiver.broker.subscribe("\ud800")
    with pytest.raises(ValueError, match="surrogates"):
        receiver.broker.publish("\ud800", b"")
    publish_until_received(publisher, receiver, b"before")
    server.kill()
    server.start()
    publish_until_received(publisher, receiver, b"after")


def test_a_bad_name_costs_the_listener_that_name_only(
    shared: RedisServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process = open_process(shared.url, "a")
    wish = BrokerWish()
    process.broker._listener.subscribe("\ud800", wish)  # type: ignore[attr-defined]
    process.broker.subscribe("b")
    process.broker.publish("b", b"payload")
    process.await_payload(b"payload")
    assert wish.is_set()
    (record,) = caplog.records
    assert "Redis cannot subscribe to '\\ud800'" in record.getMessage()


def test_a_user_of_an_access_list_may_have_some_channels_only(
    start_redis: StartRedis, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused is logged, and the rest goes on."""
    server = start_redis("--user", "me", "on", ">pass", "resetchannels", "&mine*", "+@all")
    process = open_process(f"redis://me:pass@127.0.0.1:{server.port}", "mine1", "theirs", "mine2")
    for channel in ("mine1", "mine2"):
        process.broker.publish(channel, channel.encode())
        process.await_payload(channel.encode())
    assert "refused SUBSCRIBE theirs" in caplog.text
    with pytest.raises(BrokerError):
        process.broker.publish("theirs", b"")


def test_a_wrong_password_is_said_and_not_shown(
    start_redis: StartRedis, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis("--requirepass", "right")
    process = open_process(f"redis://:wr0ng@127.0.0.1:{server.port}", "a")
    with pytest.raises(BrokerError):
        process.broker.publish("a", b"")
    assert "password" in caplog.text
    assert "wr0ng" not in caplog.text


# Going away, and coming back


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_after_it_was_killed_all_goes_on_and_two_lines_are_logged(
    start_redis: StartRedis,
    open_process: OpenProcess,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
) -> None:
    server = start_redis(cluster_of=() if scheme == "redis+cluster" else None)
    url = f"{scheme}://127.0.0.1:{server.port}"
    receiver = open_process(url, "a", "b")
    publisher = open_process(url)
    check_return_from_the_dead(server, receiver, publisher, caplog)
    wait_until(lambda: receiver.broker.channels("") == {"a": 1, "c": 1}, what="b to be gone")


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_publication_under_way_survives_the_end_of_its_broker(
    shared: RedisServer,
    shared_cluster: RedisServer,
    open_process: OpenProcess,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    """Its connection is closed when it is done, and not while it waits for the answer."""
    server = shared if scheme == "redis" else shared_cluster
    url = f"{scheme}://127.0.0.1:{server.port}"
    receiver = open_process(url, "a")
    # Other tests may have left some to the collector.
    gc.collect()
    connections = _connections_to(server)
    publisher = open_process(url)
    publish_until_received(publisher, receiver, b"before")
    assert _connections_to(server) > connections
    sent, closed = threading.Event(), threading.Event()
    read_response = redis.Connection.read_response

    def read_late(connection: redis.Connection, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name.startswith("late"):
            sent.set()
            assert closed.wait(PATIENCE)
        return read_response(connection, *args, **kwargs)

    monkeypatch.setattr(redis.Connection, "read_response", read_late)
    with ThreadPoolExecutor(1, thread_name_prefix="late") as pool:
        publication = pool.submit(publisher.broker.publish, "a", b"under way")
        assert sent.wait(PATIENCE)
        publisher.broker.close()
        closed.set()
        publication.result(PATIENCE)
    receiver.await_payload(b"under way")
    assert _connections_to(server) == connections


def _connections_to(server: RedisServer) -> int:
    """Count the connections that this process has to a server."""
    return sum(
        bool(connection.raddr) and connection.raddr.port == server.port
        for connection in psutil.Process().net_connections("tcp")
    )


def test_one_that_was_not_there_at_the_start_is_found(
    start_redis: StartRedis, open_process: OpenProcess
) -> None:
    server = start_redis()
    server.kill()
    url = server.url
    receiver, publisher = open_process(url, "a"), open_process(url)
    assert receiver.broker.is_away
    server.start()
    publish_until_received(publisher, receiver, b"payload")


def test_a_peer_that_is_silent_counts_as_gone(
    start_redis: StartRedis, open_process: OpenProcess
) -> None:
    """And who publishes meanwhile does not wait for long."""
    server = start_redis()
    url = f"redis://127.0.0.1:{server.port}?health_check_interval=1&socket_timeout=0.3"
    receiver = open_process(url, "a")
    publisher = open_process(url)
    publish_until_received(publisher, receiver, b"before")
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(BrokerError):
            publisher.broker.publish("a", b"perhaps")
    assert time.monotonic() - began < 2
    wait_until(lambda: receiver.broker.is_away, timeout=PATIENCE, what="the listener to see it")
    server.signal(signal.SIGCONT)
    publish_until_received(publisher, receiver, b"after")


def test_subscribers_of_a_hanging_redis_wait_together_for_a_moment(
    start_redis: StartRedis, open_process: OpenProcess
) -> None:
    """And not one after the other, each as long: an event view's thread may be among them."""
    server = start_redis()
    process = open_process(server.url, "a")
    server.signal(signal.SIGSTOP)
    began = time.monotonic()
    for number in range(12):
        process.broker.subscribe(f"joined {number}")
    process.broker.unsubscribe("a")
    # A confirmation is awaited for two seconds.
    assert time.monotonic() - began < 2 * BrokerWish.timeout
    server.signal(signal.SIGCONT)
    wait_until(lambda: not process.broker.is_away, timeout=3 * PATIENCE, what="it back")
    process.broker.publish("joined 7", b"after")
    process.await_payload(b"after")


def test_while_it_hangs_who_publishes_leaves_the_waiting_to_the_listener(
    start_redis: StartRedis, open_process: OpenProcess
) -> None:
    """Once it is known to be gone, no publisher waits for it."""
    server = start_redis()
    process = open_process(f"redis://127.0.0.1:{server.port}?socket_timeout=0.3", "a")
    process.broker.publish("a", b"connects")
    server.signal(signal.SIGSTOP)
    with pytest.raises(BrokerError):
        process.broker.publish("a", b"finds out")
    slowest = 0.0
    # Longer than any pause between attempts to publish.
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        began = time.monotonic()
        with pytest.raises(BrokerError):
            process.broker.publish("a", b"lost")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.01)
    assert slowest < 0.2
    server.signal(signal.SIGCONT)
    publish_until_received(process, process, b"after")


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_who_hears_of_it_may_publish(
    start_redis: StartRedis, open_process: OpenProcess, watch: Watch, scheme: str
) -> None:
    """Such as a log handler: nothing is logged under a lock."""
    server = start_redis(cluster_of=() if scheme == "redis+cluster" else None)
    process = open_process(f"{scheme}://127.0.0.1:{server.port}", "a")
    heard: list[str] = []

    class Publishing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with contextlib.suppress(BrokerError):
                process.broker.publish("a", record.getMessage().encode())
            heard.append(record.getMessage())

    handler = Publishing()
    logging.getLogger("flask_ws").addHandler(handler)
    try:
        server.kill()

        def publish() -> None:
            with pytest.raises(BrokerError):
                process.broker.publish("a", b"lost")

        for publishing in [in_thread(publish) for _ in range(4)]:
            publishing.result(PATIENCE)
        wait_until(lambda: any("is away" in line for line in heard), what="the line")
        in_thread(process.broker.subscribe, "b").result(PATIENCE)
        server.start()
        wait_until(
            lambda: any("is back" in line for line in heard), timeout=3 * PATIENCE, what="the line"
        )
    finally:
        logging.getLogger("flask_ws").removeHandler(handler)
    in_thread(publish_until_received, process, process, b"after").result(2 * PATIENCE)
    in_thread(process.broker.close).result(PATIENCE)


def test_an_idle_listener_stays_connected(
    start_redis: StartRedis, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Its peer's answers are life enough."""
    server = start_redis()
    url = f"redis://127.0.0.1:{server.port}?health_check_interval=1&socket_timeout=0.5"
    receiver = open_process(url, "a")
    with contextlib.closing(server.client()) as client:
        wait_until(lambda: _count(client, "ping") >= 2, timeout=PATIENCE)
        assert client.client_list(_type="pubsub")[0]["age"] >= "1"
    publish_until_received(open_process(url), receiver, b"payload")
    assert not caplog.records


def _count(client: redis.Redis, command: str) -> int:
    stats: Any = client.info("commandstats")
    # The fixture has sent one to see whether the server is up.
    return int(stats[f"cmdstat_{command}"]["calls"]) - 1


def test_a_listener_that_is_there_says_so_when_publishing_has_failed(
    start_redis: StartRedis, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis()
    process = open_process(server.url, "a")
    with contextlib.closing(server.client()) as client:
        # Refuses those that are not connected yet.
        client.config_set("maxclients", 2)
        with pytest.raises(BrokerError):
            process.broker.publish("a", b"lost")
        client.config_set("maxclients", 100)
    publish_until_received(process, process, b"payload")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    away, back = [record.getMessage() for record in caplog.records]
    assert "is away" in away
    assert "is back" in back


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_the_listener_survives_whatever_is_raised_in_its_thread(
    shared: RedisServer, open_process: OpenProcess, monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    process = open_process(shared.url, "a")
    listener = process.broker._listener  # type: ignore[attr-defined]
    monkeypatch.setattr(listener, "send", _raise(error))
    process.broker.unsubscribe("b")
    wait_until(lambda: process.broker.is_away, what="the error")
    monkeypatch.undo()
    publish_until_received(process, process, b"payload")


def _raise(error: type[BaseException]) -> Callable[[], object]:
    def raise_error() -> object:
        raise error("on purpose")

    return raise_error


def test_a_delivery_that_fails_is_logged_and_the_next_one_made(
    shared: RedisServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process = open_process(shared.url, "a")
    broker: Any = process.broker
    deliver = broker._listener._deliver
    broker._listener._deliver = lambda channel, payload: deliver(channel, payload.decode().encode())
    broker.publish("a", b"\xff")
    broker.publish("a", b"fine")
    process.await_payload(b"fine")
    assert "could not be delivered" in caplog.text


# Forks


@pytest.mark.unix
def test_a_child_process_leaves_its_parents_connection_alone(
    start_redis: StartRedis, open_process: OpenProcess
) -> None:
    """It closes what it has inherited, and can have a broker of its own."""
    server = start_redis()
    url = server.url
    parent = open_process(url, "a")
    parent.broker.publish("a", b"connects")
    fd = parent.broker._listener._connection._sock.fileno()  # type: ignore[attr-defined]
    check_child(flask_ws_open_broker, url, [fd], at_end=lambda: None)
    parent.await_payload(b"from the child")
    with contextlib.closing(server.client()) as client:
        wait_until(lambda: len(client.client_list(_type="pubsub")) == 1)
    publish_until_received(open_process(url), parent, b"still there")


# Clusters


def test_a_channel_whose_slot_moves_is_followed(
    start_redis: StartRedis,
    shared_cluster: RedisServer,
    open_process: OpenProcess,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody has to be told, and nothing is away."""
    # The last test of all: the shared cluster is not whole afterwards.
    one, other = shared_cluster, start_redis(cluster_of=[shared_cluster])
    url = f"redis+cluster://127.0.0.1:{one.port}"
    receiver, publisher = open_process(url, "a", "b"), open_process(url)
    publish_until_received(publisher, receiver, b"before")
    with contextlib.closing(one.client()) as client, contextlib.closing(other.client()) as heir:
        # A slot that has keys is not given away just so.
        client.flushall()
        slot = client.execute_command("CLUSTER KEYSLOT", "a")
        node = heir.execute_command("CLUSTER MYID")
        for server in (heir, client):
            server.execute_command("CLUSTER SETSLOT", slot, "NODE", node)
        wait_until(
            lambda: b"a" in heir.execute_command("PUBSUB SHARDCHANNELS"),
            timeout=PATIENCE,
            what="the subscription to move",
        )
    for number in range(3):
        publisher.broker.publish("a", str(number).encode())
    publisher.broker.publish("b", b"for b")
    receiver.await_payload(b"2")
    receiver.await_payload(b"for b")
    found = [payload for channel, payload in receiver.delivered if channel == "a"]
    assert found == [b"before", b"0", b"1", b"2"]
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]
