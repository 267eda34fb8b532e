"""Numbers and signals of an app's WebSockets."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from flask import Flask, abort, request
from tests.support.memory import MemoryServer
from tests.support.waiting import until
from werkzeug.serving import make_server

import flask_ws
from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    RouteStats,
    Sock,
    Stats,
    WebSocket,
    WebSocketView,
)
from flask_ws.cli import ws as group
from flask_ws.connection.endpoint import connection_of
from flask_ws.plugin.memory import MemoryBroker
from flask_ws.routes.state import AppState
from flask_ws.testing import HandshakeRefused, connect

#: What would change a terminal, and a line that is forged.
HOSTILE = "\x1b[31m\r\nforged\x9b"


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


class Echo(WebSocketView):
    """Sends back what it receives."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


def ended(app: Flask, sock: Sock, endpoint: str, number: int = 1) -> RouteStats:
    """The numbers of a route, when so many connections have ended."""
    until(lambda: sum(sock.stats(app).routes[endpoint].closed.values()) == number)
    return sock.stats(app).routes[endpoint]


async def echo_async(ws: AsyncWebSocket) -> None:
    async for message in ws:
        await ws.send(message)


class AsyncEcho(AsyncWebSocketView):
    """Sends back what it receives, too."""

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await ws.send(message)


@pytest.mark.parametrize("handler", [echo, Echo, echo_async, AsyncEcho])
def test_every_message_counts(app: Flask, sock: Sock, handler: Any) -> None:
    sock.route("/feed", endpoint="feed", compression=False)(handler)
    with connect(app, "/feed") as ws:
        for _ in range(7):
            ws.send("hello")
            ws.receive()
        # A message is counted when it has been sent, a moment after the client may have it.
        until(lambda: sock.stats(app).routes["feed"].messages_out == 7)
        now = sock.stats(app).routes["feed"]
        assert (now.open, now.messages_in) == (1, 7)
        ws.close(4000)
    stats = ended(app, sock, "feed")
    assert (stats.rule, stats.open, stats.opened) == ("/feed", 0, 1)
    assert (stats.messages_in, stats.messages_out) == (7, 7)
    assert stats.closed == {4000: 1}
    # Masked frames of 5 bytes, and the close frame.
    assert stats.bytes_in == 7 * 11 + 8


def test_methods_of_event_views_are_timed(app: Flask, sock: Sock) -> None:
    @sock.route("/feed")
    class Feed(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            time.sleep(0.02)

    with connect(app, "/feed") as ws:
        ws.send("hello")
        ws.close()
    assert 0.02 <= ended(app, sock, "Feed").busy_seconds < 2


def test_refusals_count_by_status(app: Flask, sock: Sock) -> None:
    @app.before_request
    def guard() -> None:
        from flask import request

        if request.path == "/feed":
            abort(401)

    sock.route("/feed")(echo)
    for path in ("/feed", "/nowhere", "/nowhere"):
        with pytest.raises(HandshakeRefused), connect(app, path):
            pass
    routes = sock.stats(app).routes
    assert routes["echo"].refused == {401: 1}
    assert routes[""].refused == {404: 2}


def test_a_slow_reader_counts_and_is_told_of(app: Flask, sock: Sock) -> None:
    told: list[dict[str, Any]] = []

    def receiver(sender: Flask, **facts: Any) -> None:
        told.append(facts)

    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        connection_of(ws).sender.overflow()

    with flask_ws.slow_reader.connected_to(receiver, app):
        with connect(app, "/feed") as ws:
            list(ws)
        stats = ended(app, sock, "feed")
    assert stats.slow_readers == 1
    assert [facts["code"] for facts in told] == [1013]


def test_publications_and_deliveries_count(app: Flask, sock: Sock) -> None:
    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        list(ws)

    with app.app_context():
        assert sock.stats().broker == "unused"
        with connect(app, "/feed") as first, connect(app, "/feed") as second:
            assert (first.receive(), second.receive()) == ("ready", "ready")
            sock.publish("news", "one")
            sock.publish("elsewhere", "two")
            stats = sock.stats()
            assert (stats.channels, stats.subscribers) == (1, 2)
        until(lambda: not sock.stats().channels)
        stats = sock.stats()
    assert (stats.publications, stats.deliveries) == (2, 2)
    assert stats.broker == "memory"


@pytest.mark.parametrize("history", [{}, {"news": (1, 300)}])
def test_subscribers_that_have_missed_messages_count(
    app: Flask, sock: Sock, history: dict[str, tuple[int, int]]
) -> None:
    app.config["SOCK_HISTORY"] = history

    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        ws.subscribe("news", since=str(ws.receive()), gap="gap")
        list(ws)

    with app.app_context():
        first = str(sock.publish("news", "1").position)
        for number in ("2", "3"):
            sock.publish("news", number)
        with connect(app, "/feed") as ws:
            ws.send(first)
            assert ws.receive() == "gap"
        assert sock.stats().gaps == 1


def test_a_process_that_drains_says_so(app: Flask, sock: Sock) -> None:
    assert not sock.stats(app).draining
    sock.drain()
    assert sock.stats(app).draining


def test_a_process_whose_server_stops_says_so(app: Flask, sock: Sock, server: MemoryServer) -> None:
    app.config["SOCK_DRAIN"] = 20.0
    sock.route("/feed")(Echo)
    stopping = threading.Event()
    peer = server.connect(app, "/feed", is_stopping=stopping.is_set, detachable=True)
    assert not sock.stats(app).draining
    stopping.set()
    until(lambda: sock.stats(app).draining)
    peer.close()


def test_stats_are_json(app: Flask, sock: Sock) -> None:
    sock.route("/feed")(echo)
    with connect(app, "/feed"):
        pass
    ended(app, sock, "echo")
    stats = json.loads(json.dumps(sock.stats(app).as_dict()))
    assert stats["routes"]["echo"]["opened"] == 1
    assert set(stats) == set(Stats.__dataclass_fields__)


# Signals


@pytest.mark.parametrize("handler", [echo, Echo, echo_async, AsyncEcho])
def test_a_connection_is_told_of_at_its_beginning_and_its_end(
    app: Flask, sock: Sock, handler: Any
) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    def opened(sender: Flask, ws: WebSocket | AsyncWebSocket, **facts: Any) -> None:
        assert ws.id == facts["id"]
        told.append(("opened", facts))

    def closed(sender: Flask, **facts: Any) -> None:
        assert sender is app
        told.append(("closed", facts))

    sock.route("/feed")(handler)
    with (
        flask_ws.connection_opened.connected_to(opened, app),
        flask_ws.connection_closed.connected_to(closed, app),
    ):
        with connect(app, "/feed") as ws:
            ws.send("hello")
            ws.receive()
            ws.close(4000, "bye")
        until(lambda: len(told) == 2)
    (_, first), (_, last) = told
    assert first["path"] == last["path"] == "/feed"
    assert first["id"] == last["id"]
    assert (last["code"], last["reason"], last["messages_in"]) == (4000, "bye", 1)


def test_a_refusal_is_told_of(app: Flask, sock: Sock) -> None:
    told: list[dict[str, Any]] = []

    def receiver(sender: Flask, **facts: Any) -> None:
        told.append(facts)

    with (
        flask_ws.handshake_refused.connected_to(receiver, app),
        pytest.raises(HandshakeRefused),
        connect(app, "/nowhere"),
    ):
        pass
    assert [(facts["endpoint"], facts["status"]) for facts in told] == [("", 404)]


def test_a_receiver_that_raises_ends_nothing(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    def receiver(sender: Flask, **facts: Any) -> None:
        raise RuntimeError("the receiver's fault")

    sock.route("/feed")(echo)
    with (
        flask_ws.connection_opened.connected_to(receiver, app),
        connect(app, "/feed") as ws,
    ):
        ws.send("hello")
        assert ws.receive() == "hello"
    assert "A receiver of the signal connection-opened has failed." in caplog.text


def test_the_broker_is_told_of_when_it_is_away_and_back(
    app: Flask, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def away(sender: Flask, reason: str) -> None:
        told.append(reason)

    def back(sender: Flask) -> None:
        told.append("back")

    broker = MemoryBroker()
    monkeypatch.setattr("flask_ws.plugin.manager.plugins.open_broker", lambda url: broker)
    channels = AppState.of(app).channels
    channels.publish("news", "one")
    with (
        flask_ws.broker_away.connected_to(away, app),
        flask_ws.broker_back.connected_to(back, app),
    ):
        broker.went_away("pulled the plug")
        broker.came_back()
    assert told == ["pulled the plug", "back"]


# The command


@pytest.fixture
def url(app: Flask, sock: Sock) -> Iterator[str]:
    """Where the numbers of an app are served, by two processes that take turns."""
    pids = iter([1, 2] * 100)

    numbers = Flask("numbers")

    @numbers.route("/stats")
    def stats() -> dict[str, Any]:
        return {**sock.stats(app).as_dict(), "pid": next(pids)}

    @numbers.route("/changed", methods=["GET", "POST"])
    def changed() -> dict[str, Any]:
        route: dict[str, Any] = {**sock.stats(app).as_dict()["routes"][""], "rule": HOSTILE}
        routes = {HOSTILE: {**route, **json.loads(request.args.get("route", "{}"))}}
        stats = {**sock.stats(app).as_dict(), "draining": True, "broker": HOSTILE, "routes": routes}
        return {**stats, **json.loads(request.args.get("stats", "{}"))}

    @numbers.route("/deep", methods=["GET", "POST"])
    def deep() -> str:
        return "[" * 100_000

    @numbers.route("/other")
    def other() -> dict[str, Any]:
        return {"other": 1}

    # Not http.server, of which eventlet's tests have a green copy.
    server = make_server("127.0.0.1", 0, numbers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/stats"
    server.shutdown()
    thread.join()
    server.server_close()


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(group, ["stats", *arguments])


def test_the_command_shows_the_numbers(app: Flask, sock: Sock, url: str) -> None:
    sock.route("/feed")(echo)
    with connect(app, "/feed") as ws:
        ws.send("hello")
        ws.receive()
        ws.close(4000)
    ended(app, sock, "echo")
    lines = invoke(url).output.splitlines()
    assert lines[0].startswith("Process 1: ")
    assert lines[-1].split()[:7] == ["echo", "/feed", "0", "1", "4000:1", "-", "1"]


def test_the_command_adds_up_processes(app: Flask, sock: Sock, url: str) -> None:
    sock.route("/feed")(echo)
    with connect(app, "/feed") as ws:
        ws.close(4000)
    ended(app, sock, "echo")
    lines = invoke(url, "--processes", "2").output.splitlines()
    assert lines[0].startswith("Processes 1, 2: ")
    assert lines[-1].split()[3:5] == ["2", "4000:2"]


def test_the_command_says_what_the_view_returns(url: str) -> None:
    result = invoke(url.replace("/stats", "/other"))
    assert result.exit_code == 1
    assert "sock.stats().as_dict()" in result.output


def test_what_the_command_shows_moves_no_cursor(app: Flask, sock: Sock, url: str) -> None:
    sock.route("/feed")(echo)
    app.test_client().get("/nowhere", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    result = invoke(url.replace("/stats", "/changed"))
    assert result.exit_code == 0
    assert "forged" in result.output
    assert all(line.isprintable() for line in result.output.splitlines())


@pytest.mark.parametrize("command", ["stats", "drain"])
@pytest.mark.parametrize(
    "answer",
    [
        "/deep",
        '/changed?stats={"pid":"\\u001b[31m"}',
        '/changed?stats={"connections":"1"}',
        '/changed?stats={"routes":[]}',
        '/changed?stats={"routes":{"a":[]}}',
        '/changed?route={"open":"1"}',
        '/changed?route={"closed":[]}',
        '/changed?route={"refused":{"400":"1"}}',
        '/changed?route={"rule":5}',
    ],
)
def test_an_answer_with_other_data_is_an_error(
    app: Flask, sock: Sock, url: str, command: str, answer: str
) -> None:
    app.test_client().get("/nowhere", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    target = url.replace("/stats", quote(answer, safe="/?="))
    result = CliRunner().invoke(group, [command, target])
    assert result.exit_code == 1
    assert result.output.startswith("Error: The answer has no numbers of flask-ws")


def test_the_command_says_that_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    result = invoke(f"http://127.0.0.1:{port}/")
    assert result.exit_code == 1
    assert f"http://127.0.0.1:{port}/: " in result.output


@pytest.mark.parametrize("command", ["stats", "drain"])
def test_the_command_wants_an_http_url(command: str) -> None:
    assert CliRunner().invoke(group, [command, "ws://127.0.0.1/"]).exit_code == 2
