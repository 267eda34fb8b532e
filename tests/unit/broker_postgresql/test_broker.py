from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from typing import Any

import psutil
import pytest
from tests.support.brokers import (
    OpenProcess,
    check_child,
    check_no_password_in_error,
    check_refusal_in_words,
    check_return_from_the_dead,
    publish_until_received,
)
from tests.support.postgresql import PostgresServer

from flask_ws import BrokerError, BrokerWish, ConfigurationError
from flask_ws.testing import BrokerSuite
from flask_ws.testing.brokers import PATIENCE
from flask_ws.testing.suite.process import Certificate, wait_until
from flask_ws_postgresql import flask_ws_open_broker
from flask_ws_postgresql.settings import Settings

# They share a server.
pytestmark = pytest.mark.xdist_group("test_broker_postgresql")


# The suite for brokers


class TestServer(BrokerSuite):
    unreachable_url = "postgresql://127.0.0.1:1"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def set_url(cls, server: PostgresServer) -> None:
        cls.url = server.make_url(database=server.make_database(), query="&sslmode=disable")


class TestTls(BrokerSuite):
    unreachable_url = "postgres://localhost:1?sslmode=require"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def set_url(cls, server: PostgresServer, certificate: Certificate) -> None:
        query = f"&sslmode=verify-full&sslrootcert={certificate.authority}"
        cls.url = server.make_url("localhost", database=server.make_database(), query=query)


@pytest.mark.unix
class TestUnixSocket(BrokerSuite):
    unreachable_url = "postgresql:///postgres?host=/nowhere"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def set_url(cls, server: PostgresServer) -> None:
        cls.url = (
            f"postgresql+psycopg://me:{server.password}@/{server.make_database()}"
            f"?host={server.folder}&port={server.port}&create_tables=true"
        )


# URLs


@pytest.mark.parametrize("url", ["mysql://localhost", "postgresqlx://localhost", "memory://"])
def test_other_schemes_are_left_to_others(url: str) -> None:
    assert flask_ws_open_broker(url) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://", "its default place"),
        ("postgresql:///app", "its default place"),
        ("postgresql://user:secret@example.com:1/app", "example.com:1"),
        ("postgres://:secret@example.com", "example.com:5432"),
        ("postgresql://one:1,two/app", "one:1,two:5432"),
        ("postgresql://[::1]:1/app", "::1:1"),
        ("postgresql://me@/app?host=/run/postgresql", "/run/postgresql"),
        ("postgresql://%2Frun%2Fpostgresql/app", "/run/postgresql"),
        ("postgresql:///app?host=one,two&port=1", "one:1,two:1"),
    ],
)
def test_a_server_is_named_by_its_place(url: str, name: str) -> None:
    assert Settings.from_url(url).name == f"PostgreSQL at {name}"


def test_what_the_url_says_is_what_libpq_gets() -> None:
    url = "postgresql://me:p%40%2F%23s@127.0.0.1:1/my%20app?sslmode=disable&application_name=x"
    (conninfo,) = (make() for make in Settings.from_url(url).conninfos())
    found = dict(
        part.split("=", 1) for part in conninfo.decode().replace("my app", "my_app").split()
    )
    assert found["password"] == "p@/#s"
    assert found["dbname"] == "'my_app'"
    expected = {"user": "me", "hostaddr": "127.0.0.1", "port": "1", "sslmode": "disable"}
    assert expected.items() <= found.items()


def test_what_the_url_says_goes_before_our_defaults() -> None:
    settings = Settings.from_url(
        "postgresql://h?connect_timeout=3&answer_timeout=0.5&max_connections=2&create_tables=true"
    )
    assert (settings.connect_timeout, settings.answer_timeout) == (3, 0.5)
    assert (settings.max_connections, settings.create_tables) == (2, True)
    assert not Settings.from_url("postgresql://h").create_tables


@pytest.mark.parametrize(
    "url",
    [
        # Each is as people write them who have a password with such a character.
        "postgresql://:QWX/ZJK@h",
        "postgresql://:QWX?ZJK@h",
        "postgresql://:QWX#ZJK@h",
        "postgresql://:1/QWXZJK@h",
        "postgresql://:1?QWXZJK=@h",
        "postgresql://:1#QWXZJK@h",
        "postgresql://:a@b/QWXZJK@h",
        "postgresql://me:QWX:ZJK@h:port",
        "postgresql://:QWX%2FZJK@h?nonsense=1",
        "postgresql://h?password=QWX/ZJK&nonsense=1",
        "postgresql://h?password=QWX@ZJK",
        "postgresql://h?password=QWXZJK&answer_timeout=x",
    ],
)
def test_no_part_of_a_password_is_in_an_error(url: str) -> None:
    check_no_password_in_error(flask_ws_open_broker, url)


def test_no_password_is_in_the_text_of_anything(open_process: OpenProcess) -> None:
    """Such texts end up in error reports, with the local variables of each frame."""
    url = "postgresql://me:QWXZJK@127.0.0.1:1?sslpassword=QWXZJK"
    settings = Settings.from_url(url)
    broker = open_process(url, "a").broker
    seen: list[Any] = [settings, vars(settings), broker, vars(broker)]
    with pytest.raises(BrokerError) as raised:
        broker.publish("a", b"")
    trace: BaseException | None = raised.value
    while trace is not None:
        frames = traceback.walk_tb(trace.__traceback__)
        seen += [
            frame.f_locals
            for frame, _ in frames
            if "flask_ws_postgresql" in frame.f_code.co_filename
        ]
        trace = trace.__cause__
    assert "QWXZJK" not in "".join(map(repr, seen))


@pytest.mark.parametrize(
    ("url", "in_words"),
    [
        ("postgresql://:secret@h?sslmdoe=require", "sslmdoe"),
        ("postgresql://:secret@h?answer_timeout=soon", "answer_timeout must be a number"),
        ("postgresql://:secret@h?max_connections=0.5", "max_connections must be a whole number"),
        ("postgresql://:secret@h?create_tables=yes", "create_tables must be true or false"),
        ("postgresql://:secret@h:port", "port"),
        ("postgresql://:secret@h?port=secret", "port"),
        ("postgresql:secret", "postgresql://"),
    ],
)
def test_a_wrong_url_is_refused_in_words_without_its_password(url: str, in_words: str) -> None:
    check_refusal_in_words(flask_ws_open_broker, url, in_words)


def test_where_there_is_no_libpq_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match="libpq5"):
        flask_ws_open_broker("postgresql://localhost")


# Connections


def count_connections(server: PostgresServer) -> int:
    with server.client() as client:
        row = client.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        ).fetchone()
    assert row is not None
    return int(row[0]) - 1


def test_a_process_listens_on_one_connection(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    wait_until(lambda: count_connections(server) == 0, what="those of other tests to end")
    open_process(server.url, *"abcdef")
    assert count_connections(server) == 1


def test_a_process_that_only_publishes_has_no_thread(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    before = threading.active_count()
    open_process(server.url).broker.publish("a", b"")
    assert threading.active_count() == before


def test_nothing_is_left_open(server: PostgresServer, open_process: OpenProcess) -> None:
    gc.collect()
    before = psutil.Process().num_fds()
    process = open_process(server.url, "a")
    process.broker.publish("a", b"payload")
    process.await_payload(b"payload")
    process.broker.close()
    assert psutil.Process().num_fds() == before
    wait_until(lambda: count_connections(server) == 0, what="PostgreSQL to see it")


def test_publishers_wait_for_a_connection_where_there_are_too_few(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """And who has waited for a second gets an error."""
    broker: Any = open_process(server.make_url(query="&max_connections=1")).broker
    with broker._pool.take(), pytest.raises(BrokerError, match="max_connections"):
        broker.publish("a", b"")
    broker.publish("a", b"")


def test_what_is_too_long_for_a_notification_arrives_in_pieces(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """Of whatever size, among others."""
    receiver = open_process(server.url, "a")
    publisher = open_process(server.url)
    payloads = [os.urandom(size) for size in (5699, 5700, 5701, 11400, 11401, 300_000)]
    for payload in payloads:
        publisher.broker.publish("a", payload)
    receiver.await_payload(payloads[-1])
    assert [payload for _, payload in receiver.delivered] == payloads


def test_what_began_before_the_subscription_is_left_out(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """The rest of a message whose beginning has not arrived is no message."""
    receiver: Any = open_process(server.url, "a")
    (name,) = receiver.broker._listener._names
    with server.client() as client:
        client.execute("SELECT pg_notify(%s, '1 2 - AAAA')", [name.decode()])
        client.execute("SELECT pg_notify(%s, 'nonsense')", [name.decode()])
    publish_until_received(open_process(server.url), receiver, b"payload")
    assert receiver.delivered == [("a", b"payload")]


def test_a_bad_name_costs_the_listener_that_name_only(
    server: PostgresServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process = open_process(server.url, "a")
    wish = BrokerWish()
    process.broker._listener.subscribe("\ud800", wish)  # type: ignore[attr-defined]
    process.broker.subscribe("b")
    process.broker.publish("b", b"payload")
    process.await_payload(b"payload")
    assert wish.is_set()
    (record,) = caplog.records
    assert "Nobody can listen to '\\ud800'" in record.getMessage()


def test_a_wrong_password_is_said_and_not_shown(
    server: PostgresServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process = open_process(server.url.replace(server.password, "wr0ng"), "a")
    with pytest.raises(BrokerError):
        process.broker.publish("a", b"")
    assert "password authentication failed" in caplog.text
    assert "wr0ng" not in caplog.text


# Going away, and coming back


def test_after_it_was_killed_all_goes_on_and_two_lines_are_logged(
    server: PostgresServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, publisher = open_process(server.url, "a", "b"), open_process(server.url)
    check_return_from_the_dead(server, receiver, publisher, caplog)


def test_connections_that_the_server_has_ended_cost_no_publication(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """They are found closed before they are used."""
    publisher = open_process(server.url)
    publisher.broker.publish("a", b"")
    with server.client() as client:
        client.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'flask-ws'"
        )
    publisher.broker.publish("a", b"")


def test_a_server_that_hangs_delays_nobody_for_long(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """Publishers, subscribers together, and nobody once it is known."""
    query = "&health_check_interval=1&answer_timeout=0.3"
    receiver, publisher = (
        open_process(server.make_url(query=query), "a"),
        open_process(server.make_url(query=query)),
    )
    publish_until_received(publisher, receiver, b"before")
    server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(BrokerError):
                publisher.broker.publish("a", b"perhaps")
        for number in range(12):
            receiver.broker.subscribe(f"joined {number}")
        receiver.broker.unsubscribe("joined 3")
        assert time.monotonic() - began < 2
        wait_until(lambda: receiver.broker.is_away, timeout=PATIENCE, what="the listener to see it")
    finally:
        server.signal(signal.SIGCONT)
    publish_until_received(publisher, receiver, b"after")
    publisher.broker.publish("joined 7", b"joined")
    receiver.await_payload(b"joined")


def test_an_idle_listener_stays_connected(
    server: PostgresServer, open_process: OpenProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Its peer's answers are life enough."""
    receiver: Any = open_process(
        server.make_url(query="&health_check_interval=0.1&answer_timeout=1"), "a"
    )
    link = receiver.broker._listener._link
    pings = []
    ping = receiver.broker._listener.ping
    receiver.broker._listener.ping = lambda: pings.append(ping())
    wait_until(lambda: len(pings) > 2, what="pings")
    publish_until_received(open_process(server.url), receiver, b"payload")
    assert receiver.broker._listener._link is link
    assert not caplog.records


# Forks, and greenlets


@pytest.mark.unix
def test_a_child_process_leaves_its_parents_connections_alone(
    server: PostgresServer, open_process: OpenProcess
) -> None:
    """It closes what it has inherited, and can have a broker of its own."""
    parent: Any = open_process(server.url, "a")
    publisher: Any = open_process(server.url)
    publisher.broker.publish("a", b"connects")
    fds = [parent.broker._listener._link.fd, publisher.broker._pool._idle[0].fd]

    def collect() -> None:
        nonlocal parent, publisher
        del parent, publisher
        gc.collect()

    check_child(flask_ws_open_broker, server.url, fds, collect)
    parent.await_payload(b"from the child")
    publisher.broker.publish("a", b"still there")
    parent.await_payload(b"still there")


GREEN = """
{patch}
import os, signal, sys, threading, time
from flask_ws import BrokerError
from flask_ws.plugin.manager import plugins
from flask_ws.testing.brokers import Process

process = Process(plugins.open_broker(sys.argv[1]))
process.broker.subscribe("a")
process.broker.publish("a", bytes(100_000))
process.await_payload(bytes(100_000))
print("ready", flush=True)
longest, turns, done = 0.0, 0, False

def tick():
    global longest, turns
    last = time.monotonic()
    while not done:
        time.sleep(0.01)
        now = time.monotonic()
        longest, last, turns = max(longest, now - last), now, turns + 1

ticking = threading.Thread(target=tick)
ticking.start()
sys.stdin.readline()
for call in (lambda: process.broker.publish("a", b"perhaps"),) * 3:
    try:
        call()
    except BrokerError:
        pass
process.broker.subscribe("b")
done = True
ticking.join()
process.broker.close()
print("ticked", turns > 20, longest < 0.75, flush=True)
"""


@pytest.mark.parametrize(
    "patch",
    [
        "from gevent import monkey; monkey.patch_all()",
        "import eventlet; eventlet.monkey_patch()",
    ],
    ids=["gevent", "eventlet"],
)
def test_a_server_that_hangs_holds_up_no_other_greenlet(server: PostgresServer, patch: str) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            GREEN.format(patch=patch),
            server.make_url(query="&answer_timeout=1.5"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            server.signal(signal.SIGSTOP)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ticked True True\n"
        finally:
            server.signal(signal.SIGCONT)
            process.kill()
