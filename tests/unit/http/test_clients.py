"""Limits by client: connections, and messages a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, g, request
from tests.support.memory import MemoryServer
from tests.support.waiting import until
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    Options,
    Sock,
    WebSocket,
    WebSocketView,
)
from flask_ws.http import clients as clients_module
from flask_ws.http.clients import Clients, TooMany, clients, find_key
from flask_ws.testing import HandshakeRefused, connect


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def echo_with_timeout(ws: WebSocket) -> None:
    while (message := ws.receive(timeout=30)) is not None:
        ws.send(message)


class Echo(WebSocketView):
    """Sends back what it receives."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


async def echo_async(ws: AsyncWebSocket) -> None:
    async for message in ws:
        await ws.send(message)


async def echo_async_with_timeout(ws: AsyncWebSocket) -> None:
    while (message := await ws.receive(timeout=30)) is not None:
        await ws.send(message)


class AsyncEcho(AsyncWebSocketView):
    """Sends back what it receives."""

    async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
        await ws.send(message)


@pytest.fixture(autouse=True)
def nobody_is_left() -> Any:
    yield
    until(lambda: not clients._here)
    clients._gone.clear()


# The table


def test_a_client_has_so_many_connections_and_no_more() -> None:
    table, options = Clients(), Options(max_per_client=2)
    first = table.enter("a", options)
    assert table.enter("a", options) is first
    with pytest.raises(TooMany):
        table.enter("a", options)
    table.enter("b", options)
    table.leave(first)
    assert table.enter("a", options) is first


def test_who_has_gone_is_forgotten() -> None:
    table, options = Clients(), Options(max_per_client=2)
    table.leave(table.enter("a", options))
    assert len(table) == 0


def test_who_has_sent_too_much_does_not_get_more_by_connecting_again() -> None:
    table, options = Clients(), Options(rate=1 / 3600)
    for expected in (True, False):
        client = table.enter("a", options)
        assert client.bucket is not None
        assert client.bucket.take() is expected
        table.leave(client)


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients_module, "MOST_GONE", 10)
    table, options = Clients(), Options(rate=1 / 3600)
    for number in range(50):
        client = table.enter(number, options)
        assert client.bucket is not None
        client.bucket.take()
        table.leave(client)
    assert list(table._gone) == list(range(40, 50))


# Who is who


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:2%eth0", "2001:db8::/64"),
        ("unknown", "unknown"),
        ("", None),
    ],
)
def test_a_client_is_its_address_or_its_network(app: Flask, address: str, key: str | None) -> None:
    with app.test_request_context("/", environ_base={"REMOTE_ADDR": address}):
        assert find_key(Options()) == key


def refused(app: Flask, path: str = "/feed", **headers: str) -> int | None:
    """The status of a refusal; ``None`` if there is none."""
    try:
        with connect(app, path, headers=headers or None):
            return None
    except HandshakeRefused as error:
        response = error.response
    return response.status_code if int(response.headers["Retry-After"]) > 0 else None


def test_one_connection_too_many_gets_429(app: Flask, sock: Sock) -> None:
    sock.route("/feed", max_per_client=1)(echo)
    sock.route("/other", max_per_client=1, endpoint="other")(echo)
    with connect(app, "/feed"):
        assert refused(app) == 429
        assert refused(app, "/other") is None
    until(lambda: not clients._here)
    assert refused(app) is None


def test_behind_a_proxy_it_is_the_clients_address_that_counts(app: Flask, sock: Sock) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    sock.route("/feed", max_per_client=1)(echo)
    with connect(app, "/feed", headers={"X-Forwarded-For": "192.0.2.1"}):
        assert refused(app, **{"X-Forwarded-For": "192.0.2.1"}) == 429
        assert refused(app, **{"X-Forwarded-For": "192.0.2.2"}) is None


def test_a_function_of_the_app_tells_clients_apart(app: Flask, sock: Sock) -> None:
    app.config["SOCK_CLIENT_KEY"] = lambda: g.user

    @app.before_request
    def log_in() -> None:
        g.user = request.headers.get("X-User")

    sock.route("/feed", max_per_client=1)(echo)
    with connect(app, "/feed", headers={"X-User": "ada"}):
        assert refused(app, **{"X-User": "ada"}) == 429
        assert refused(app, **{"X-User": "bob"}) is None
        # Not limited.
        assert refused(app) is None


# Messages a second

HANDLERS: list[Callable[..., Any]] = [
    echo,
    echo_with_timeout,
    Echo,
    echo_async,
    echo_async_with_timeout,
    AsyncEcho,
]


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_fast_client_waits(app: Flask, sock: Sock, handler: Any) -> None:
    sock.route("/feed", rate="50/s", rate_burst=1)(handler)
    with connect(app, "/feed") as ws:
        began = time.monotonic()
        for number in range(6):
            ws.send(str(number))
        assert [ws.receive() for _ in range(6)] == ["0", "1", "2", "3", "4", "5"]
        assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("handler", HANDLERS)
def test_messages_of_a_fast_client_are_dropped(
    app: Flask, sock: Sock, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sock.route("/feed", rate="2/h", rate_burst=2, rate_action="drop")(handler)
    with connect(app, "/feed") as ws:
        for number in range(6):
            ws.send(str(number))
        assert [ws.receive(), ws.receive()] == ["0", "1"]
        until(lambda: caplog.records)
        assert ws.receive(timeout=0) is None
    (record,) = caplog.records
    assert "sends too fast (SOCK_RATE): messages are dropped" in record.getMessage()


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_fast_client_is_closed(app: Flask, sock: Sock, handler: Any) -> None:
    sock.route("/feed", rate="2/h", rate_burst=1, rate_action="close")(handler)
    with connect(app, "/feed") as ws:
        ws.send("0")
        assert ws.receive() == "0"
        ws.send("1")
        assert list(ws) == []
        assert ws.close_code == 1008


def test_all_connections_of_a_client_count(app: Flask, sock: Sock) -> None:
    sock.route("/feed", rate="2/h", rate_burst=1, rate_action="drop")(echo)
    with connect(app, "/feed") as first, connect(app, "/feed") as second:
        first.send("0")
        assert first.receive() == "0"
        second.send("1")
        second.close()
        assert list(second) == []


def test_a_client_that_waits_can_leave(app: Flask, sock: Sock) -> None:
    """Its handler does not wait for the rest of the time."""
    sock.route("/feed", rate="2/h", rate_burst=1)(echo)
    with connect(app, "/feed") as ws:
        ws.send("0")
        ws.receive()
        ws.send("1")
    until(lambda: not clients._here)


def test_an_event_view_that_slows_clients_has_a_thread(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """The threads that event views share do not wait."""
    names: list[str] = []

    @sock.route("/", rate="50/s", rate_burst=1)
    class Feed(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            names.append(threading.current_thread().name)
            ws.send(message)

    peer = server.connect(app, detach=True)
    for _ in range(3):
        peer.echo("hello")
    peer.close()
    assert set(names) == {"flask_ws.handler"}


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_handler_that_gives_a_client_some_time_gets_it_back(
    app: Flask, sock: Sock, timeout: float
) -> None:
    @sock.route("/feed", rate="2/h", rate_burst=1)
    def feed(ws: WebSocket) -> None:
        ws.send(ws.receive())
        ws.send(str(ws.receive(timeout=timeout)))

    with connect(app, "/feed") as ws:
        ws.send("0")
        ws.send("1")
        assert list(ws) == ["0", "None"]
