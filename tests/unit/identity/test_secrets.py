"""Tickets and bearer tokens: whom they let in, and that nobody sees them."""

from __future__ import annotations

import logging
import time
import traceback
from typing import Any

import flask
import pytest
from flask import Flask

from flask_ws import Broker, BrokerError, ConfigurationError, Sock, WebSocket, hookimpl
from flask_ws.http.secrets import TICKET, hide_secrets
from flask_ws.identity.tickets import BadTicket, Tickets
from flask_ws.plugin.manager import Plugins
from flask_ws.plugin.used import Used
from flask_ws.testing import HandshakeRefused, connect

from .conftest import declare

TOKEN = "eyJhbGciOi.J9-_.s1gnature"


@pytest.fixture
def ticket(app: Flask, sock: Sock) -> str:
    with app.app_context():
        return sock.ticket("ada")


def refusal(app: Flask, path: str, **options: Any) -> int:
    """Connect, and return the status of the refusal."""
    with pytest.raises(HandshakeRefused) as caught, connect(app, path, **options):
        pass
    assert caught.value.response.status_code in (401, 503)
    return caught.value.response.status_code


def test_a_ticket_says_who_the_client_is(app: Flask, sock: Sock, kind: str, ticket: str) -> None:
    """The app's own function is not asked."""
    sock.identify(lambda: "grace")
    declare(sock, kind)
    with connect(app, f"/?ticket={ticket}") as ws:
        assert ws.receive() == "ada"


def test_a_ticket_lets_in_once(app: Flask, sock: Sock, ticket: str) -> None:
    declare(sock, "handler")
    with connect(app, f"/?ticket={ticket}") as ws:
        ws.receive()
    assert refusal(app, f"/?ticket={ticket}") == 401


def test_an_old_ticket_lets_nobody_in(app: Flask, sock: Sock) -> None:
    declare(sock, "handler")
    with app.app_context():
        ticket = sock.ticket("ada", ttl=0.001)
    time.sleep(0.01)
    assert refusal(app, f"/?ticket={ticket}") == 401


def test_a_changed_ticket_lets_nobody_in(app: Flask, sock: Sock, ticket: str) -> None:
    declare(sock, "handler")
    for wrong in (ticket[:-1], ticket + "x", ticket[:20] + ticket[21:], "flask-ws."):
        assert refusal(app, f"/?ticket={wrong}") == 401


def test_what_the_app_signs_itself_is_no_ticket() -> None:
    """Under the same key, for other things."""
    tickets = Tickets(["key"])
    for value in (["ada"], {"identity": "ada"}, ["ada", "soon", "1"], [7, 1e12, "1"], "ada"):
        signed = tickets._serializer.dumps(value)
        with pytest.raises(BadTicket):
            tickets.take(f"flask-ws.{signed}", lambda *_: True)


def test_a_parameter_of_the_apps_own_is_left_alone(app: Flask, sock: Sock) -> None:
    """It may have one of the same name."""

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(flask.request.args["ticket"])

    with connect(app, "/?ticket=4711") as ws:
        assert ws.receive() == "4711"


def test_tickets_of_an_older_key_are_taken(app: Flask, sock: Sock, ticket: str) -> None:
    """One of SECRET_KEY_FALLBACKS; and of no other."""
    declare(sock, "handler")
    app.config.update(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["not secret"])
    with connect(app, f"/?ticket={ticket}") as ws:
        assert ws.receive() == "ada"
    with app.app_context():
        other = sock.ticket("ada")
    app.config.update(SECRET_KEY="other", SECRET_KEY_FALLBACKS=[])
    assert refusal(app, f"/?ticket={other}") == 401


def test_without_a_secret_key_there_are_no_tickets(app: Flask, sock: Sock) -> None:
    app.config["SECRET_KEY"] = None
    with app.app_context(), pytest.raises(ConfigurationError, match="SECRET_KEY"):
        sock.ticket("ada")


@pytest.mark.parametrize("ttl", [0, -1, float("inf"), float("nan"), True, "30"])
def test_a_ticket_is_for_some_seconds(app: Flask, sock: Sock, ttl: Any) -> None:
    with app.app_context(), pytest.raises((TypeError, ValueError), match="ttl"):
        sock.ticket("ada", ttl)


class AwayBroker(Broker):
    """Cannot be reached."""

    uses_once = True

    def start(self, deliver: object) -> None:
        pass

    def subscribe(self, channel: str) -> None:
        pass

    unsubscribe = subscribe

    def use_once(self, key: str, seconds: float) -> bool:
        raise BrokerError("It is away.")

    def close(self) -> None:
        pass


class SimpleBroker(AwayBroker):
    """Knows nothing of tickets."""

    uses_once = False


@pytest.mark.parametrize(
    ("make", "status"), [(AwayBroker, 503), (SimpleBroker, None)], ids=["away", "simple"]
)
def test_without_the_broker_a_ticket_is_not_taken(
    app: Flask, sock: Sock, no_plugins: Plugins, make: type[Broker], status: int | None
) -> None:
    """Where it can tell; where it cannot, this process remembers."""

    class Plugin:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            return make() if url == "other://" else None

    no_plugins.register(Plugin)
    app.config["SOCK_BROKER_URL"] = "other://"
    declare(sock, "handler")
    with app.app_context():
        ticket = sock.ticket("ada")
    if status is None:
        with connect(app, f"/?ticket={ticket}") as ws:
            assert ws.receive() == "ada"
        status = 401
    assert refusal(app, f"/?ticket={ticket}") == status
    no_plugins.unregister(Plugin)


def test_what_was_used_is_forgotten_in_time() -> None:
    used = Used()
    assert used.use("a", 0.02)
    assert used.use("b", 60)
    assert not used.use("a", 60)
    time.sleep(0.03)
    assert used.use("a", 60)
    assert not used.use("b", 60)
    assert len(used) == 2


def test_a_bearer_token_is_the_authorization_of_the_request(app: Flask, sock: Sock) -> None:
    """In identify, in the handler, and where the app asks again."""

    @sock.identify
    def who() -> str:
        return flask.request.headers["Authorization"].removeprefix("Bearer ")

    @sock.route("/", subprotocols=["chat"])
    def handler(ws: WebSocket) -> None:
        ws.send(flask.request.headers["Authorization"])

    with connect(app, "/", subprotocols=["chat", f"flask-ws.bearer.{TOKEN}"]) as ws:
        assert ws.subprotocol == "chat"
        assert ws.receive() == f"Bearer {TOKEN}"


def test_a_bearer_token_may_be_quoted(app: Flask, sock: Sock) -> None:
    """A subprotocol has no room for all characters."""

    @sock.route("/", subprotocols=["chat"])
    def handler(ws: WebSocket) -> None:
        ws.send(flask.request.headers["Authorization"])

    with connect(app, "/", subprotocols=["flask-ws.bearer.a%2Fb%3D", "chat"]) as ws:
        assert ws.receive() == "Bearer a/b="


def test_a_header_goes_before_a_subprotocol(app: Flask, sock: Sock) -> None:
    @sock.route("/", subprotocols=["chat"])
    def handler(ws: WebSocket) -> None:
        ws.send(flask.request.headers["Authorization"])

    with connect(
        app,
        "/",
        subprotocols=["chat", f"flask-ws.bearer.{TOKEN}"],
        headers={"Authorization": "Bearer other"},
    ) as ws:
        assert ws.receive() == "Bearer other"


def test_a_bearer_token_is_never_echoed(app: Flask, sock: Sock) -> None:
    """Not even if the route's own subprotocols begin in the same way."""
    name = f"flask-ws.bearer.{TOKEN}"

    @sock.route("/", subprotocols=[name])
    def handler(ws: WebSocket) -> None:
        ws.send(str(ws.subprotocol))

    with connect(app, "/", subprotocols=[name]) as ws:
        assert ws.receive() == "None"
        assert TOKEN not in str(ws.response.headers)


def test_nobody_sees_the_secrets(
    app: Flask, sock: Sock, ticket: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In no line of the log, no exception, and no repr."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    @sock.identify
    def who() -> str:
        shown.append(f"{flask.request!r} {flask.request.environ!r} {flask.request.headers!r}")
        shown.append(flask.request.url + repr(flask.request.args))
        return "ada"

    declare(sock, kind)
    subprotocols = ["chat", f"flask-ws.bearer.{TOKEN}"]
    with connect(app, f"/?a=1&ticket={ticket}&b=2", subprotocols=subprotocols) as ws:
        ws.receive()
    with connect(app, "/", subprotocols=subprotocols) as ws:
        ws.receive()
    with (
        pytest.raises(HandshakeRefused) as caught,
        connect(app, f"/?ticket={ticket}", subprotocols=subprotocols),
    ):
        pass
    answer = caught.value.response
    shown += [record.getMessage() for record in caplog.records]
    shown += ["".join(traceback.format_exception(caught.value)), answer.get_data(as_text=True)]
    shown += [repr(ticket), repr([ticket])]
    for text in shown:
        assert ticket[9:] not in text
        assert TOKEN not in text
    assert "It was used before." in caplog.text


def test_what_servers_keep_of_the_url_has_no_ticket() -> None:
    """Their access log has it from there."""
    environ: dict[str, Any] = {
        "QUERY_STRING": "a=1&ticket=flask-ws.secret%2E1&ticket=flask-ws.two&b=ticket=flask-ws.no",
        "REQUEST_URI": "/ws?ticket=flask-ws.secret%2E1",
        "RAW_URI": "http://host/ws?a&ticket=flask-ws.secret%2E1#x",
    }
    hide_secrets(environ)
    assert environ[TICKET] == "flask-ws.secret.1"
    assert environ["QUERY_STRING"] == "a=1&ticket=-&ticket=-&b=ticket=flask-ws.no"
    assert environ["REQUEST_URI"] == "/ws?ticket=-"
    assert environ["RAW_URI"] == "http://host/ws?a&ticket=-#x"
