"""Who is there, for handlers of all kinds, and for the app."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, request
from tests.support.waiting import until

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    Broker,
    ConfigurationError,
    ConnectionClosed,
    Sock,
    WebSocket,
    WebSocketView,
    hookimpl,
)
from flask_ws.channels import opening as opening_module
from flask_ws.plugin import manager as plugins
from flask_ws.testing import connect

KINDS = ("handler", "view", "async", "async_view")
CALLS = ("join", "leave", "subscribe_presence", "unsubscribe_presence")


@pytest.fixture
def app() -> Flask:
    app = Flask("presence")
    app.config["SOCK_PRESENCE_GRACE"] = 0
    return app


@pytest.fixture
def sock(app: Flask) -> Sock:
    sock = Sock(app)
    sock.identify(lambda: request.headers.get("X-User"))
    return sock


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def read(message: str | bytes) -> tuple[str, list[Any], dict[str, Any]]:
    """Read what to call, with which arguments."""
    name, args, kwargs = json.loads(message)
    assert name in CALLS
    return name, args, kwargs


def declare(sock: Sock, kind: str, **options: Any) -> None:
    """A route that does what it is told, and says what came of it."""
    if kind == "handler":

        @sock.route("/", **options)
        def handler(ws: WebSocket) -> None:
            for message in ws:
                do(ws, message)

    elif kind == "view":

        @sock.route("/", **options)
        class View(WebSocketView):
            def on_message(self, ws: WebSocket, message: str | bytes) -> None:
                do(ws, message)

    elif kind == "async":

        @sock.route("/", **options)
        async def async_handler(ws: AsyncWebSocket) -> None:
            async for message in ws:
                await do_async(ws, message)

    else:

        @sock.route("/", **options)
        class AsyncView(AsyncWebSocketView):
            async def on_message(self, ws: AsyncWebSocket, message: str | bytes) -> None:
                await do_async(ws, message)


def do(ws: WebSocket, message: str | bytes) -> None:
    name, args, kwargs = read(message)
    try:
        getattr(ws, name)(*args, **kwargs)
    except (TypeError, ValueError) as error:
        ws.send(str(error))
    else:
        ws.send("done")


async def do_async(ws: AsyncWebSocket, message: str | bytes) -> None:
    name, args, kwargs = read(message)
    try:
        await getattr(ws, name)(*args, **kwargs)
    except (TypeError, ValueError) as error:
        await ws.send(str(error))
    else:
        await ws.send("done")


class Client:
    """Tells a route what to do."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws

    def do(self, name: str, *args: Any, **kwargs: Any) -> str:
        """Have something called; returns what came of it."""
        self.ws.send(json.dumps([name, args, kwargs]))
        return str(self.ws.receive())

    def event(self) -> Any:
        """Return the next message about who is there."""
        return json.loads(self.ws.receive())


@pytest.mark.parametrize("kind", KINDS)
def test_who_joins_is_there_until_the_end(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind)
    assert sock.presence("room") == {}
    with connect(app, "/") as one, connect(app, "/") as other:
        assert Client(one).do("join", "room", key=7, info={"name": "Ada"}) == "done"
        assert Client(other).do("join", "room", key="8") == "done"
        assert sock.presence("room") == {"7": [{"name": "Ada"}], "8": [{}]}
        assert sock.presence("another") == {}
        assert sock.stats().members == 2
        assert Client(one).do("leave", "room") == "done"
        assert sock.presence("room") == {"8": [{}]}
    until(lambda: sock.presence("room") == {})
    assert sock.stats().members == 0


@pytest.mark.parametrize("kind", KINDS)
def test_who_watches_is_told_all_and_then_what_changes(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind)
    with connect(app, "/") as one, connect(app, "/") as other:
        watcher, joiner = Client(one), Client(other)
        watcher.do("join", "room", key="7")
        about = {"type": "presence", "channel": "room"}
        state = {**about, "event": "state", "members": {"7": [{}]}}
        one.send(json.dumps(["subscribe_presence", ["room"], {}]))
        assert [json.loads(one.receive()), one.receive()] == [state, "done"]
        assert watcher.do("subscribe_presence", "room") == "done"
        joiner.do("join", "room", key="8", info=1)
        assert watcher.event() == {**about, "event": "join", "key": "8", "infos": [1]}
        joiner.do("join", "room", key="8", info=2)
        assert watcher.event() == {**about, "event": "change", "key": "8", "infos": [2]}
        joiner.do("leave", "room")
        assert watcher.event() == {**about, "event": "leave", "key": "8"}
        assert watcher.do("unsubscribe_presence", "room") == "done"
        joiner.do("join", "room", key="8")
        assert watcher.do("leave", "elsewhere") == "done"


@pytest.mark.parametrize("kind", ["handler", "async"])
def test_the_key_is_the_identity_by_default(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind)
    with connect(app, "/", headers={"X-User": "ada"}) as ws, connect(app, "/") as nobody:
        Client(ws).do("join", "room")
        assert sock.presence("room") == {"ada": [{}]}
        assert "declare who clients are by @sock.identify" in Client(nobody).do("join", "room")


@pytest.mark.parametrize("kind", ["handler", "async"])
def test_wrong_arguments_are_refused_in_words(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind, presence_max_info=10)
    with connect(app, "/") as ws:
        client = Client(ws)
        for name in CALLS:
            assert "must not be empty" in client.do(name, "", *(["7"] if name == "join" else []))
        assert "SOCK_PRESENCE_MAX_INFO" in client.do("join", "room", 7, "x" * 9)
        assert "A key is text" in client.do("join", "room", 1.5)
    assert sock.presence("room") == {}


@pytest.mark.parametrize("kind", ["handler", "async"])
def test_one_join_too_many_ends_the_connection(
    app: Flask, sock: Sock, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    declare(sock, kind, presence_max_joins=2)
    with connect(app, "/") as ws:
        for channel in ("a", "b", "a"):
            assert Client(ws).do("join", channel, "7") == "done"
        with pytest.raises(ConnectionClosed):
            Client(ws).do("join", "c", "7")
        assert (ws.close_code, ws.close_reason) == (1008, "too many joins")
    assert "SOCK_PRESENCE_MAX_JOINS" in caplog.text


def test_watching_counts_as_a_subscription(app: Flask, sock: Sock) -> None:
    """A user's own channel does not."""
    declare(sock, "handler", max_subscriptions=2)
    with connect(app, "/", headers={"X-User": "ada"}) as ws:
        for channel in ("a", "b"):
            ws.send(json.dumps(["subscribe_presence", [channel], {}]))
            assert [ws.receive()[:8], ws.receive()] == ['{"type":', "done"]
        with pytest.raises(ConnectionClosed):
            Client(ws).do("subscribe_presence", "c")
        assert ws.close_code == 1008


def test_joined_is_not_subscribed(app: Flask, sock: Sock) -> None:
    declare(sock, "handler")
    with connect(app, "/") as ws:
        Client(ws).do("join", "room", "7")
        sock.publish("room", "text")
        assert Client(ws).do("leave", "room") == "done"
        assert sock.subscribers("room") == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("GRACE", -1), ("LEASE", 0.5), ("MAX_JOINS", 0), ("MAX_INFO", 1), ("GRACE", None)],
)
def test_wrong_options_are_refused(app: Flask, name: str, value: object) -> None:
    app.config[f"SOCK_PRESENCE_{name}"] = value
    with pytest.raises(ConfigurationError, match=f"SOCK_PRESENCE_{name} must be a"):
        Sock(app)


class Silent(Broker):
    """A broker that knows nobody."""

    def start(self, deliver: Any) -> None: ...

    def publish(self, channel: str, payload: bytes) -> None: ...

    def subscribe(self, channel: str) -> None: ...

    def unsubscribe(self, channel: str) -> None: ...

    def close(self) -> None: ...


class SilentPlugin:
    @staticmethod
    @hookimpl
    def flask_ws_open_broker(url: str) -> Broker | None:
        return Silent() if url == "silent://" else None


def test_with_a_broker_that_cannot_tell_a_process_knows_its_own(
    app: Flask, no_plugins: plugins.Plugins, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once."""
    no_plugins.register(SilentPlugin)
    app.config["SOCK_BROKER_URL"] = "silent://"
    sock = Sock(app)
    declare(sock, "handler")
    with connect(app, "/") as ws:
        client = Client(ws)
        client.do("join", "room", "7")
        assert sock.presence("room") == {"7": [{}]}
        ws.send(json.dumps(["subscribe_presence", ["room"], {}]))
        assert client.event()["members"] == {"7": [{}]}
    assert caplog.text.count("Silent, cannot tell who is there") == 1
    assert caplog.records[0].levelno == logging.WARNING
    opening_module.close_brokers()
