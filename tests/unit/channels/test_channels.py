from __future__ import annotations

import gc
import json
import logging
import random
import subprocess
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import flask
import pytest
from flask import Flask
from tests.support.locks import Watch
from tests.support.memory import MemoryServer, in_thread, tcp_pair
from tests.support.raw import BINARY, TEXT, Peer
from tests.support.waiting import PATIENCE, until

from flask_ws import (
    Broker,
    BrokerError,
    ConnectionClosed,
    Sock,
    WebSocket,
    WebSocketView,
    hookimpl,
    testing,
)
from flask_ws.channels import groups as groups_module
from flask_ws.channels import opening as opening_module
from flask_ws.channels.subscribers import Subscribers
from flask_ws.concurrency import HomeThread, threads
from flask_ws.plugin.manager import Plugins
from flask_ws.protocol import shared as shared_module
from flask_ws.protocol.deflate import make_compressor
from flask_ws.protocol.shared import SharedMessage

#: A handler on its thread, an event view on the server's, and one on the reactor.
PLACES = {"handler": {}, "view": {}, "reactor": {"detachable": True}}

Open = Callable[..., Peer]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def declare(sock: Sock, place: str, **options: Any) -> None:
    """A route that subscribes, says so, and echoes."""
    if place == "handler":

        @sock.route("/<channel>", **options)
        def handler(ws: WebSocket, channel: str) -> None:
            ws.subscribe(channel)
            ws.send("ready")
            for message in ws:
                ws.send(message)

    else:

        @sock.route("/<channel>", **options)
        class View(WebSocketView):
            def on_open(self, ws: WebSocket, channel: str) -> None:
                ws.subscribe(channel)
                ws.send("ready")

            def on_message(self, ws: WebSocket, message: str | bytes) -> None:
                ws.send(message)


@pytest.fixture
def open_(server: MemoryServer, app: Flask) -> Open:
    """Open a WebSocket that is subscribed when this returns."""

    def open_(target: str = "/news", place: str = "handler", **kwargs: Any) -> Peer:
        peer = server.connect(app, target, **PLACES[place], **kwargs)
        assert peer.read() == "ready"
        return peer

    return open_


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


pytestmark = pytest.mark.usefixtures("context")


# Who gets what


def test_what_is_published_reaches_each_subscriber(sock: Sock, open_: Open, place: str) -> None:
    declare(sock, place)
    peers = [open_("/news", place) for _ in range(3)]
    assert sock.publish("news", "hello")
    assert [peer.read() for peer in peers] == ["hello"] * 3


def test_what_is_published_on_another_channel_does_not(sock: Sock, open_: Open, place: str) -> None:
    declare(sock, place)
    peer = open_("/news", place)
    sock.publish("weather", "rain")
    assert peer.echo("nothing before this") == "nothing before this"


def test_to_publish_to_nobody_is_no_error(sock: Sock) -> None:
    assert sock.publish("news", "hello")


@pytest.mark.parametrize("data", [b"\0\1", bytearray(b"\0\1"), memoryview(b"\0\1")])
def test_bytes_are_published_as_binary(sock: Sock, open_: Open, data: Any) -> None:
    declare(sock, "handler")
    peer = open_()
    sock.publish("news", data)
    assert peer.read_opcode(BINARY).payload == b"\0\1"


def test_text_is_published_as_text(sock: Sock, open_: Open) -> None:
    declare(sock, "handler")
    peer = open_()
    sock.publish("news", "grüße")
    assert peer.read_opcode(TEXT).payload == "grüße".encode()


def test_a_dictionary_is_no_message(sock: Sock) -> None:
    with pytest.raises(TypeError, match="publish_json"):
        sock.publish("news", {})  # type: ignore[arg-type]


def test_json_is_written_by_the_apps_provider(app: Flask, sock: Sock, open_: Open) -> None:
    try:
        from flask.json.provider import DefaultJSONProvider
    except ImportError:  # Flask before 2.2
        encoder = type("Encoder", (json.JSONEncoder,), {"default": lambda self, o: f"<{o}>"})
        app.json_encoder = encoder  # type: ignore[attr-defined]
    else:

        class Provider(DefaultJSONProvider):
            @staticmethod
            def default(o: Any) -> Any:
                return f"<{o}>"

        app.json = Provider(app)
    declare(sock, "handler")
    peer = open_()
    sock.publish_json("news", {"a": [1, b"x"]}, separators=(",", ":"))
    assert peer.read() == """{"a":[1,"<b'x'>"]}"""


def test_the_excluded_connection_gets_nothing(sock: Sock, open_: Open, place: str) -> None:
    seen: list[WebSocket] = []

    @sock.route("/others")
    def others(ws: WebSocket) -> None:
        ws.subscribe("news")
        seen.append(ws)
        ws.send("ready")
        for message in ws:
            sock.publish("news", message, exclude=ws)

    declare(sock, place)
    one, other = open_("/others"), open_("/news", place)
    one.send("from one")
    assert other.read() == "from one"
    sock.publish("news", "from outside")
    assert one.read() == "from outside"


def test_several_connections_can_be_excluded(sock: Sock, open_: Open) -> None:
    seen: list[WebSocket] = []

    @sock.route("/news")
    def news(ws: WebSocket) -> None:
        ws.subscribe("news")
        seen.append(ws)
        ws.send("ready")
        ws.receive()

    peers = [open_("/news") for _ in range(3)]
    sock.publish("news", "for the last", exclude=seen[:2])
    sock.publish("news", "for all")
    assert [peer.read() for peer in peers] == ["for all", "for all", "for the last"]


def test_to_subscribe_twice_is_to_subscribe_once(sock: Sock, open_: Open) -> None:
    @sock.route("/news")
    def news(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.subscribe("news")
        ws.send("ready")
        ws.receive()

    peer = open_()
    assert sock.subscribers("news") == 1
    sock.publish("news", "a")
    sock.publish("news", "b")
    assert [peer.read(), peer.read()] == ["a", "b"]


def test_a_connection_can_have_many_channels(sock: Sock, open_: Open) -> None:
    @sock.route("/many")
    def many(ws: WebSocket) -> None:
        for number in range(10):
            ws.subscribe(f"channel {number}")
        ws.send("ready")
        ws.receive()

    peer = open_("/many")
    for number in range(10):
        sock.publish(f"channel {number}", str(number))
    assert [peer.read() for _ in range(10)] == [str(number) for number in range(10)]


def test_a_connection_that_has_unsubscribed_gets_nothing(sock: Sock, open_: Open) -> None:
    @sock.route("/news")
    def news(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.subscribe("weather")
        ws.unsubscribe("news")
        ws.unsubscribe("never subscribed to")
        ws.send("ready")
        ws.receive()

    peer = open_()
    assert sock.subscribers("news") == 0
    sock.publish("news", "news")
    sock.publish("weather", "rain")
    assert peer.read() == "rain"


def test_the_end_of_a_connection_ends_its_subscriptions(
    app: Flask, sock: Sock, server: MemoryServer, open_: Open, place: str
) -> None:
    declare(sock, place)
    peer, other = open_("/news", place), open_("/news", place)
    assert sock.subscribers("news") == 2
    peer.close()
    peer.expect_end(PATIENCE)
    assert sock.subscribers("news") == 1
    other.close()
    server.close()
    until(lambda: not app.extensions["flask_ws"].channels.subscriptions)
    assert app.extensions["flask_ws"].channels.subscriptions.get("news") is None
    assert sock.publish("news", "hello")


class Kept:
    """Something that lives as long as its connection."""


def test_of_a_connection_that_has_ended_nothing_is_kept(
    sock: Sock, server: MemoryServer, open_: Open
) -> None:
    """Not even while nobody publishes."""
    seen: list[weakref.ref[Kept]] = []

    @sock.route("/<channel>")
    def handler(ws: WebSocket, channel: str) -> None:
        ws.subscribe(channel)
        ws.kept = kept = Kept()  # type: ignore[attr-defined]
        seen.append(weakref.ref(kept))
        del kept
        ws.send("ready")
        for _ in ws:
            pass

    staying, leaving = open_("/news"), open_("/news")
    sock.publish("news", "hello")
    assert [staying.read(), leaving.read()] == ["hello", "hello"]
    leaving.close()
    until(lambda: gc.collect() is not None and seen[1]() is None)
    assert seen[0]() is not None


def test_a_closed_connection_cannot_subscribe(sock: Sock, server: MemoryServer, app: Flask) -> None:
    closed: Future[int] = Future()

    @sock.route("/")
    def late(ws: WebSocket) -> None:
        for _ in ws:
            pass
        try:
            ws.subscribe("news")
        except ConnectionClosed as error:
            closed.set_result(error.code)

    server.connect(app).close(3000)
    assert closed.result(PATIENCE) == 3000
    assert sock.subscribers("news") == 0


@pytest.mark.parametrize(
    ("channel", "error", "message"),
    [
        (b"news", TypeError, "is str, not bytes"),
        ("", ValueError, "must not be empty"),
        ("\ud800", ValueError, "surrogates"),
        ("x" * 256, ValueError, "longer than 255 bytes"),
        ("ü" * 128, ValueError, "longer than 255 bytes"),
    ],
)
def test_a_channels_name_is_text_that_has_an_end(
    sock: Sock,
    server: MemoryServer,
    app: Flask,
    channel: Any,
    error: type[Exception],
    message: str,
) -> None:
    """Clients may choose it, by what they send."""
    raised: list[Exception] = []

    @sock.route("/")
    def subscribes(ws: WebSocket) -> None:
        for change in (ws.subscribe, ws.unsubscribe):
            try:
                change(channel)
            except (TypeError, ValueError) as caught:
                raised.append(caught)

    server.connect(app).answer_close()
    assert [type(each) for each in raised] == [error] * 2
    with pytest.raises(error, match=message):
        sock.publish(channel, "hello")
    with pytest.raises(error, match=message):
        sock.subscribers(channel)


@pytest.mark.parametrize("channel", ["x" * 255, "ü" * 127, "\0"])
def test_any_other_text_will_do(sock: Sock, channel: str) -> None:
    assert sock.publish(channel, "hello")


def test_who_subscribes_to_too_much_is_closed_with_1008(
    sock: Sock, server: MemoryServer, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """What it has already, or no longer, does not count."""
    refused: Future[int] = Future()

    @sock.route("/", max_subscriptions=2)
    def greedy(ws: WebSocket) -> None:
        for channel in ("a", "b", "a", "b"):
            ws.subscribe(channel)
        ws.unsubscribe("a")
        ws.subscribe("c")
        ws.send("two")
        try:
            ws.subscribe("a")
        except ConnectionClosed as error:
            refused.set_result(error.code)

    peer = server.connect(app)
    assert peer.read() == "two"
    assert peer.read_close().close_code == 1008
    assert refused.result(PATIENCE) == 1008
    (record,) = caplog.records
    assert "SOCK_MAX_SUBSCRIPTIONS" in record.getMessage()
    server.close()
    assert sock.subscribers("b") == 0


def test_apps_have_their_own_channels(app: Flask, sock: Sock, open_: Open) -> None:
    declare(sock, "handler")
    peer = open_()
    other = Flask("other")
    sock.init_app(other)
    with other.app_context():
        assert sock.subscribers("news") == 0
        sock.publish("news", "for the other app")
    sock.publish("news", "for this")
    assert peer.read() == "for this"


def test_a_test_client_gets_publications(app: Flask, sock: Sock) -> None:
    declare(sock, "handler")
    with testing.connect(app, "/news") as ws:
        assert ws.receive() == "ready"
        sock.publish("news", "hello")
        assert ws.receive() == "hello"


def test_without_an_app_context_there_is_nowhere_to_publish(sock: Sock) -> None:
    def publish() -> None:
        sock.publish("news", "hello")

    with pytest.raises(RuntimeError, match="application context"):
        in_thread(publish).result(PATIENCE)


# Order


def test_each_subscriber_has_all_of_each_publishers_messages_in_order(
    app: Flask, sock: Sock, open_: Open, place: str
) -> None:
    """Also where its own handler sends between them."""
    declare(sock, place, max_outbox=2**24)
    peers = [open_("/news", place, pair=tcp_pair()) for _ in range(3)]

    def publish(publisher: int) -> None:
        with app.app_context():
            for number in range(200):
                sock.publish("news", f"{publisher} {number} {'x' * (number % 7 * 300)}")

    def receive(peer: Peer) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for number in range(4 * 200):
            if number % 20 == 0:
                peer.send(f"echo {number}")
            publisher, found = str(peer.read()).split()[:2]
            while publisher == "echo":
                publisher, found = str(peer.read()).split()[:2]
            numbers.setdefault(publisher, []).append(int(found))
        return numbers

    receiving = [in_thread(receive, peer) for peer in peers]
    publishing = [in_thread(publish, publisher) for publisher in range(4)]
    for each in publishing:
        each.result(PATIENCE)
    expected = {str(publisher): list(range(200)) for publisher in range(4)}
    assert [each.result(PATIENCE) for each in receiving] == [expected] * 3


def test_who_comes_and_goes_takes_nothing_from_the_others(
    app: Flask, sock: Sock, open_: Open, server: MemoryServer
) -> None:
    declare(sock, "handler")
    staying = open_()
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            peer = server.connect(app, "/news")
            peer.send_close()
            peer.read_close(after="anything")

    coming = in_thread(come_and_go)
    for number in range(300):
        sock.publish("news", str(number))
    stop.set()
    coming.result(PATIENCE)
    assert [staying.read() for _ in range(300)] == [str(number) for number in range(300)]


def test_a_publication_waits_for_what_is_being_sent(
    sock: Sock, server: MemoryServer, app: Flask
) -> None:
    """It interrupts no frame, and no publisher waits with it."""
    data = bytes(range(256)) * 20_000

    @sock.route("/")
    def sends(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send(data)

    peer = server.connect(app, pair=tcp_pair())
    until(lambda: sock.subscribers("news"))
    peer.fill(1)
    in_thread(publish_in, app, sock, "news", "hello").result(PATIENCE)
    assert peer.read() == data
    assert peer.read() == "hello"
    assert peer.answer_close().close_code == 1000


def publish_in(app: Flask, sock: Sock, channel: str, data: str | bytes) -> bool:
    with app.app_context():
        return bool(sock.publish(channel, data))


# Many: their messages go into outboxes first


@pytest.fixture
def seats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two subscribers are many."""
    monkeypatch.setattr(groups_module, "FEW", 1)


many = pytest.mark.usefixtures("seats")


@many
def test_many_subscribers_have_all_messages_in_order(
    app: Flask, sock: Sock, open_: Open, place: str
) -> None:
    declare(sock, place, max_outbox=2**24)
    peers = [open_("/news", place, pair=tcp_pair()) for _ in range(3)]
    messages = [f"{number} {'x' * (number % 7 * 500)}" for number in range(300)]
    receiving = [in_thread(lambda peer: [peer.read() for _ in messages], peer) for peer in peers]
    for message in messages:
        sock.publish("news", message)
    assert [each.result(PATIENCE) for each in receiving] == [messages] * 3


@many
def test_what_a_handler_sends_comes_after_what_it_has_published(sock: Sock, open_: Open) -> None:
    @sock.route("/talks")
    def talks(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        for number in range(100):
            sock.publish("news", f"published {number}")
            ws.send(f"sent {number}")
        sock.publish("news", "the end")

    declare(sock, "handler")
    other, peer = open_("/news"), open_("/talks")
    for number in range(100):
        assert [peer.read(), peer.read()] == [f"published {number}", f"sent {number}"]
        assert other.read() == f"published {number}"
    assert [peer.read(), other.read()] == ["the end", "the end"]
    assert peer.answer_close().close_code == 1000


@many
def test_one_of_many_can_be_excluded(sock: Sock, open_: Open) -> None:
    @sock.route("/others")
    def others(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        for message in ws:
            sock.publish("news", message, exclude=ws)
            ws.send("told")

    declare(sock, "handler")
    one, other = open_("/others"), open_("/news")
    one.send("from one")
    assert one.read() == "told"
    assert other.read() == "from one"


@many
def test_publications_to_many_are_compressed(sock: Sock, open_: Open) -> None:
    declare(sock, "handler")
    peers = [Inflater(open_(extra=offer)) for offer in [OFFER, SMALL_WINDOW, OFFER]]
    settle()
    texts = [f"{number} {'x' * 500}" for number in range(5)]
    for text in texts:
        sock.publish("news", text)
    for peer in peers:
        assert [peer.read()[0].decode() for _ in texts] == texts
        assert peer.compressed
        peer.peer.send("echo" * 100)
        assert peer.read()[0] == b"echo" * 100


@many
def test_who_publishes_very_much_closes_nobody_who_reads(
    sock: Sock, open_: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even where the spreader gets no processor time."""
    declare(sock, "handler", max_outbox=3_000_000)
    peers = [open_(pair=tcp_pair()) for _ in range(2)]
    count = 2_000
    receiving = [
        in_thread(lambda peer: [len(peer.read()) for _ in range(count)], peer) for peer in peers
    ]
    for _ in range(count):
        sock.publish("news", bytes(1000))
    assert [each.result(PATIENCE) for each in receiving] == [[1000] * count] * 2
    assert caplog.records == []


@many
def test_one_of_many_who_does_not_read_is_closed_with_1013(sock: Sock, open_: Open) -> None:
    declare(sock, "handler", max_outbox=500_000, close_timeout=PATIENCE)
    stalled, reader = (open_(pair=tcp_pair()) for _ in range(2))
    while sock.subscribers("news") == 2:
        sock.publish("news", bytes(50_000))
        assert len(reader.read()) == 50_000
    assert stalled.read_close(after="anything").close_code == 1013


# Those who do not read


def test_who_does_not_read_delays_nobody_and_is_closed_with_1013(
    app: Flask, sock: Sock, open_: Open, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    declare(sock, place, max_outbox=500_000, close_timeout=PATIENCE)
    stalled = open_("/news", place, pair=tcp_pair())
    reader = open_("/news", place, pair=tcp_pair())
    count = 0
    while sock.subscribers("news") == 2:
        sock.publish("news", bytes(50_000))
        assert len(reader.read()) == 50_000
        count += 1
        assert count < 1000
    (record,) = [record for record in caplog.records if "SOCK_MAX_OUTBOX" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert stalled.read_close(after="anything").close_code == 1013
    sock.publish("news", "goes on")
    assert reader.read() == "goes on"


def test_two_that_find_a_reader_too_slow_say_so_once(
    app: Flask, sock: Sock, open_: Open, caplog: pytest.LogCaptureFixture
) -> None:
    declare(sock, "handler")
    stalled = open_()
    (connection,) = app.extensions["flask_ws"].channels.subscriptions.connections()

    class Other(logging.Handler):
        """Another publisher, at the same time."""

        def emit(self, record: logging.LogRecord) -> None:
            connection.sender.overflow()

    other = Other()
    logging.getLogger("flask_ws").addHandler(other)
    try:
        connection.sender.overflow()
    finally:
        logging.getLogger("flask_ws").removeHandler(other)
    (_record,) = [record for record in caplog.records if "SOCK_MAX_OUTBOX" in record.getMessage()]
    assert stalled.read_close().close_code == 1013


def test_a_handler_stuck_in_send_is_closed_with_1013_too(
    sock: Sock, server: MemoryServer, app: Flask
) -> None:
    ended: Future[int] = Future()

    @sock.route("/", max_outbox=10_000, close_timeout=0.2)
    def stuck(ws: WebSocket) -> None:
        ws.subscribe("news")
        try:
            ws.send(bytes(20_000_000))
        except ConnectionClosed as error:
            ended.set_result(error.code)

    peer = server.connect(app, pair=tcp_pair())
    peer.fill(1)
    for _ in range(3):
        sock.publish("news", bytes(5_000))
    assert ended.result(PATIENCE) == 1013


def test_who_reads_late_gets_what_waited(sock: Sock, open_: Open, place: str) -> None:
    declare(sock, place, max_outbox=20_000_000)
    peer = open_("/news", place, pair=tcp_pair())
    messages = [bytes([number]) * 1_000_000 for number in range(10)]
    for message in messages:
        sock.publish("news", message)
    assert [peer.read() for _ in messages] == messages


def test_a_lost_connection_is_skipped(sock: Sock, open_: Open) -> None:
    gone = threading.Event()

    @sock.route("/gone")
    def away(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        gone.wait(PATIENCE)

    declare(sock, "handler")
    lost, other = open_("/gone", pair=tcp_pair()), open_()
    lost.reset()
    for number in range(3):
        sock.publish("news", str(number))
        assert other.read() == str(number)
    gone.set()


# Compression

OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate")]
SMALL_WINDOW = [("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=9")]


class Inflater:
    """Inflates as a browser does, with one window for all messages."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.inflate = zlib.decompressobj(-15)
        self.compressed = 0

    def read(self) -> tuple[bytes, bool]:
        """Read a message; tell whether it came compressed."""
        frame = self.peer.read_frame()
        if not frame.rsv & 0b100:
            return frame.payload, False
        self.compressed += 1
        return self.inflate.decompress(frame.payload + b"\0\0\xff\xff"), True


def settle() -> None:
    """Wait until nothing is being sent: meanwhile, publications go uncompressed."""
    subscriptions = flask.current_app.extensions["flask_ws"].channels.subscriptions
    until(lambda: not any(ws.is_sending for ws in subscriptions.connections()))


def test_a_publication_is_compressed_for_those_who_agreed_to_it(sock: Sock, open_: Open) -> None:
    declare(sock, "handler")
    plain, compressed = open_(), Inflater(open_(extra=OFFER))
    settle()
    sock.publish("news", b"x" * 1000)
    assert plain.read() == b"x" * 1000
    assert compressed.read() == (b"x" * 1000, True)


def test_a_small_publication_is_not(sock: Sock, open_: Open) -> None:
    declare(sock, "handler")
    peer = Inflater(open_(extra=OFFER))
    sock.publish("news", b"x" * 100)
    assert peer.read() == (b"x" * 100, False)


def test_a_publication_is_deflated_once_for_each_set_of_parameters(
    sock: Sock, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(sock, "handler")
    peers = [Inflater(open_(extra=offer)) for offer in [OFFER, SMALL_WINDOW] * 3]
    made: list[int] = []

    def make(bits: int) -> Any:
        made.append(bits)
        return make_compressor(bits)

    monkeypatch.setattr(shared_module, "make_compressor", make)
    text = random.Random(1).randbytes(3000).hex().encode()
    settle()
    sock.publish("news", text)
    assert [peer.read() for peer in peers] == [(text, True)] * 6
    assert sorted(made) == [9, 12]


def test_what_a_connection_sends_itself_goes_with_publications(
    sock: Sock, open_: Open, place: str
) -> None:
    """Its compressor refers to earlier messages; those of others are not among them."""
    declare(sock, place)
    peer = Inflater(open_("/news", place, extra=OFFER))
    rng = random.Random(2)
    texts = [rng.randbytes(200).hex() for _ in range(3)]
    for number in range(60):
        text = texts[rng.randrange(3)] + texts[rng.randrange(3)] + str(number)
        settle()
        if rng.random() < 0.5:
            sock.publish("news", text)
        else:
            peer.peer.send(text)
        assert peer.read() == (text.encode(), True)


def test_compressed_messages_and_publications_of_many_threads_can_be_read(
    app: Flask, sock: Sock, open_: Open
) -> None:
    @sock.route("/", max_outbox=2**24)
    def chatter(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        for number in range(300):
            ws.send(f"own {number} " + "abcdefgh" * 40)
        for _ in ws:
            pass

    peer = Inflater(open_("/", extra=OFFER, pair=tcp_pair()))

    def publish() -> None:
        with app.app_context():
            for number in range(300):
                sock.publish("news", f"published {number} " + "hgfedcba" * 40)

    publishing = in_thread(publish)
    found: dict[bytes, list[bytes]] = {b"own": [], b"published": []}
    for _ in range(600):
        kind, number, _ = peer.read()[0].split()
        found[kind].append(number)
    publishing.result(PATIENCE)
    numbers = [str(number).encode() for number in range(300)]
    assert found == {b"own": numbers, b"published": numbers}


# Homes


class Elsewhere(HomeThread):
    """A thread that the test's own is not, until it says so."""

    here = False

    def is_here(self) -> bool:
        return self.here

    def wake(self) -> None:
        pass


class Recorder:
    """As much of a connection as a fan-out needs."""

    label = "recorder"

    def __init__(self, home: HomeThread | None) -> None:
        self.home = home
        self.concurrency = threads
        self.got: list[bytes] = []
        self.sender = self

    def send_shared(self, message: SharedMessage) -> None:
        self.got.append(message.plain)


def test_connections_with_a_home_are_used_there_only() -> None:
    home = Elsewhere()
    away, here = Recorder(home), Recorder(None)
    subscribers = Subscribers()
    for each in (away, here):
        subscribers.add(each)  # type: ignore[arg-type]
    subscribers.send(SharedMessage(TEXT | 0x80, b"a"), ())
    assert (away.got, here.got) == ([], [b"\x81\x01a"])
    home.here = True
    # What came first goes first.
    subscribers.send(SharedMessage(TEXT | 0x80, b"b"), ())
    assert away.got == [b"\x81\x01a", b"\x81\x01b"]


def test_a_connection_that_fails_takes_nothing_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Recorder):
        def send_shared(self, message: SharedMessage) -> None:
            raise MemoryError

    subscribers = Subscribers()
    failing, other = Failing(None), Recorder(None)
    for each in (failing, other):
        subscribers.add(each)  # type: ignore[arg-type]
    subscribers.send(SharedMessage(TEXT | 0x80, b"a"), ())
    assert other.got == [b"\x81\x01a"]
    assert "recorder: a publication could not be delivered" in caplog.text


# The broker


class Network:
    """What the brokers of several processes share."""

    def __init__(self) -> None:
        self.brokers: list[FakeBroker] = []
        self.away = False


class FakeBroker(Broker):
    """A broker within the test."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[str, str]] = []
        self.subscribed: set[str] = set()
        self.closed = False

    def start(self, deliver: Callable[[str, bytes], object]) -> None:
        self.deliver = deliver
        self.network.brokers.append(self)

    def publish(self, channel: str, payload: bytes) -> None:
        if self.network.away:
            raise BrokerError("the network is away")
        for broker in self.network.brokers:
            if channel in broker.subscribed:
                # It brings a process its own publications, too.
                broker.deliver(channel, payload)

    def subscribe(self, channel: str) -> None:
        self.calls.append(("subscribe", channel))
        self.subscribed.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self.calls.append(("unsubscribe", channel))
        self.subscribed.remove(channel)

    def channels(self, prefix: str) -> dict[str, int]:
        found: dict[str, int] = {"flask_ws": 1}
        for broker in self.network.brokers:
            for channel in broker.subscribed:
                found[channel] = found.get(channel, 0) + 1
        return found

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def network(no_plugins: Plugins, app: Flask) -> Iterator[Network]:
    """A network for apps whose broker's URL is fake://."""
    network = Network()

    class FakePlugin:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            return FakeBroker(network) if url == "fake://" else None

    no_plugins.register(FakePlugin)
    app.config["SOCK_BROKER_URL"] = "fake://"
    yield network
    no_plugins.unregister(FakePlugin)
    opening_module.close_brokers()


@pytest.fixture
def elsewhere(network: Network) -> tuple[Flask, Sock]:
    """The same app in another process, as far as the broker sees."""
    app = Flask("app")
    app.config["SOCK_BROKER_URL"] = "fake://"
    return app, Sock(app)


def test_a_publication_reaches_the_other_processes(
    network: Network, sock: Sock, open_: Open, elsewhere: tuple[Flask, Sock]
) -> None:
    declare(sock, "handler")
    peer = open_()
    assert publish_in(*elsewhere, "news", "text")
    assert publish_in(*elsewhere, "news", b"bytes")
    assert [peer.read(), peer.read()] == ["text", b"bytes"]


def test_a_process_ignores_its_own_publications_when_they_come_back(
    network: Network, sock: Sock, open_: Open
) -> None:
    declare(sock, "handler")
    peer = open_()
    sock.publish("news", "once")
    assert peer.read() == "once"
    assert peer.echo("nothing between") == "nothing between"


def test_the_broker_is_told_of_the_first_subscriber_and_of_the_last(
    network: Network, app: Flask, sock: Sock, open_: Open, server: MemoryServer
) -> None:
    app.config["SOCK_BROKER_PREFIX"] = "site:"
    declare(sock, "handler")
    peers = [open_(), open_()]
    (broker,) = network.brokers
    assert broker.calls == [("subscribe", "site:news")]
    for peer in peers:
        peer.close()
    server.close()
    assert broker.calls == [("subscribe", "site:news"), ("unsubscribe", "site:news")]
    open_()
    assert broker.calls[2:] == [("subscribe", "site:news")]


def test_apps_with_other_prefixes_are_apart(
    network: Network, sock: Sock, open_: Open, elsewhere: tuple[Flask, Sock]
) -> None:
    declare(sock, "handler")
    peer = open_()
    elsewhere[0].config["SOCK_BROKER_PREFIX"] = "other:"
    assert publish_in(*elsewhere, "news", "hello")
    assert peer.echo("nothing before") == "nothing before"


def test_without_its_broker_a_publication_reaches_its_own_process(
    network: Network, sock: Sock, open_: Open, caplog: pytest.LogCaptureFixture
) -> None:
    declare(sock, "handler")
    peer = open_()
    network.away = True
    assert not sock.publish("news", "one")
    assert not sock.publish("news", "two")
    assert [peer.read(), peer.read()] == ["one", "two"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "The broker is away" in record.getMessage()
    assert "the network is away" in record.getMessage()
    network.away = False
    network.brokers[0].came_back()
    assert sock.publish("news", "three")
    assert "The broker is back" in caplog.records[1].getMessage()
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"\x01" + bytes(8) + b"?hello",
        b"x" * 50,
        # Text that is not UTF-8: a client would close the connection for it.
        b"\x01" + bytes(8) + b"t\xff",
    ],
)
def test_what_others_publish_there_is_left_out_and_logged(
    network: Network,
    sock: Sock,
    open_: Open,
    payload: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    declare(sock, "handler")
    peer = open_()
    network.brokers[0].deliver("flask_ws:news", payload)
    assert "is not from flask-ws" in caplog.text
    assert peer.echo("nothing before") == "nothing before"


def test_a_broker_that_fails_to_subscribe_fails_the_subscription(
    network: Network, sock: Sock, server: MemoryServer, app: Flask
) -> None:
    refused: Future[Exception] = Future()

    @sock.route("/")
    def route(ws: WebSocket) -> None:
        def fail(channel: str) -> None:
            raise BrokerError("no room")

        sock.publish("news", "opens the broker")
        network.brokers[0].subscribe = fail  # type: ignore[method-assign]
        try:
            ws.subscribe("news")
        except BrokerError as error:
            refused.set_result(error)

    server.connect(app)
    assert str(refused.result(PATIENCE)) == "no room"
    assert sock.subscribers("news") == 0


def test_the_broker_is_opened_once_for_all_threads(network: Network, app: Flask) -> None:
    sock = Sock(app)
    for each in [in_thread(publish_in, app, sock, "news", "hello") for _ in range(10)]:
        each.result(PATIENCE)
    assert len(network.brokers) == 1


def test_nothing_is_opened_before_it_is_needed(network: Network, app: Flask) -> None:
    Sock(app)
    assert network.brokers == []


def test_brokers_are_closed_at_the_end_of_the_process(network: Network, sock: Sock) -> None:
    sock.publish("news", "hello")
    opening_module.close_brokers()
    assert [broker.closed for broker in network.brokers] == [True]


def test_channels_can_be_closed_and_opened_again(network: Network, app: Flask, sock: Sock) -> None:
    sock.publish("news", "hello")
    app.extensions["flask_ws"].channels.close()
    sock.publish("news", "hello")
    assert [broker.closed for broker in network.brokers] == [True, False]


def test_nothing_is_logged_under_a_lock(
    watch: Watch, network: Network, sock: Sock, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever handles the log may publish, subscribe, or wait for somebody who does."""

    @sock.route("/greedy", max_subscriptions=1)
    def greedy(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        for message in ws:
            ws.subscribe(str(message))

    declare(sock, "handler", max_outbox=100_000, close_timeout=0.1)
    peers = [open_("/news", pair=tcp_pair()), open_("/greedy"), open_("/news")]
    (broker,) = network.brokers
    broker.deliver("flask_ws:news", b"not from here")
    peers[1].send("one more")
    assert peers[1].read_close().close_code == 1008
    network.away = True
    while sock.subscribers("news") == 2:
        # Small beside the limit: one that has gone out may be counted for a moment.
        sock.publish("news", bytes(5_000))
        peers[2].read()
    monkeypatch.setattr(broker, "unsubscribe", lambda channel: 1 / 0)
    peers[2].close()
    network.away = False
    broker.came_back()
    until(lambda: sock.subscribers("news") == 0)
    until(lambda: len(watch.lines) == 6)


def test_a_log_handler_may_publish_while_the_broker_is_opened(
    network: Network, app: Flask, sock: Sock, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = FakeBroker.start
    published: list[bool] = []

    def log_and_start(broker: FakeBroker, deliver: Any) -> None:
        published.append(publish_in(app, sock, "news", "what the line says"))
        start(broker, deliver)

    monkeypatch.setattr(FakeBroker, "start", log_and_start)
    assert in_thread(publish_in, app, sock, "news", "hello").result(PATIENCE)
    assert published == [False]


@pytest.mark.parametrize(("url", "lines"), [("memory://", 1), ("fake://", 0)])
def test_several_processes_without_a_broker_are_logged_once(
    network: Network,
    app: Flask,
    sock: Sock,
    open_: Open,
    url: str,
    lines: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app.config["SOCK_BROKER_URL"] = url
    declare(sock, "handler")
    for _ in range(2):
        open_(environ={"wsgi.multiprocess": True})
    assert caplog.text.count("The server runs several processes") == lines


FORK = """
import os, sys
from flask import Flask
from flask_ws import Broker, Sock, hookimpl
from flask_ws.plugin.manager import plugins

class Counting(Broker):
    def start(self, deliver):
        print("started in the", "child" if os.getpid() != parent else "parent", flush=True)
    def publish(self, channel, payload):
        pass
    def close(self):
        print("closed in the", "child" if os.getpid() != parent else "parent", flush=True)

class Plugin:
    @hookimpl
    def flask_ws_open_broker(url):
        return Counting()

plugins._found = []
parent = os.getpid()
plugins.register(Plugin)
app = Flask("app")
app.config["SOCK_BROKER_URL"] = "counting://"
sock = Sock(app)
with app.app_context():
    sock.publish("news", "hello")
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
    sock.publish("news", "hello")
    sock.publish("news", "hello")
"""


@pytest.mark.unix
def test_each_process_has_a_broker_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [
        "started in the parent",
        "started in the child",
        "closed in the child",
        "closed in the parent",
    ]


def test_flask_itself_knows_nothing_of_it(app: Flask) -> None:
    """So an app that never called init_app can publish, to nobody."""
    assert Sock().publish("news", "hello")
    assert flask.current_app.extensions["flask_ws"].channels.count("news") == 0
