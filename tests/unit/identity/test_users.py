"""Who a connection belongs to, and what is done with all connections of a user."""

from __future__ import annotations

import json
import threading
from typing import Any

import flask
import pytest
from flask import Flask

from flask_ws import Identity, Sock, WebSocket
from flask_ws.channels.settings import IDENTITY
from flask_ws.testing import HandshakeRefused, connect

from .conftest import as_user, declare


@pytest.fixture(autouse=True)
def identify(sock: Sock) -> None:
    @sock.identify
    def who() -> str | None:
        return flask.request.headers.get("X-User")


def test_what_identify_returns_is_the_identity(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind)
    with as_user(app, "ada") as ada, as_user(app, None) as nobody:
        assert ada.receive() == "ada"
        assert nobody.receive() == "None"


def test_send_to_reaches_all_connections_of_a_user(app: Flask, sock: Sock, kind: str) -> None:
    """And nobody else's, in the order in which they were sent."""
    declare(sock, kind)
    with as_user(app, "ada") as one, as_user(app, "ada") as other, as_user(app, "grace") as grace:
        for each in (one, other, grace):
            each.receive()
        with app.app_context():
            assert sock.send_to("ada", "first")
            assert sock.send_json_to("ada", ["second"])
            assert sock.send_to("nobody", b"third")
            sock.send_to("grace", "last")
        for each in (one, other):
            assert each.receive() == "first"
            assert json.loads(each.receive()) == ["second"]
            assert each.receive(timeout=0) is None
        assert grace.receive() == "last"


def test_send_to_leaves_out_whom_it_is_told_to(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("ready")
        for message in ws:
            assert ws.identity
            sock.send_to(ws.identity, message, exclude=ws)
            ws.send("done")

    with as_user(app, "ada") as one, as_user(app, "ada") as other:
        one.receive(), other.receive()
        one.send("hello")
        assert one.receive() == "done"
        assert other.receive() == "hello"


def test_disconnect_ends_all_connections_of_a_user(app: Flask, sock: Sock, kind: str) -> None:
    """After what was sent to the user before; nobody else's end."""
    ended: list[Any] = []
    declare(sock, kind, ended)
    with as_user(app, "ada") as one, as_user(app, "ada") as other, as_user(app, "grace") as grace:
        for each in (one, other, grace):
            each.receive()
        with app.app_context():
            sock.send_to("ada", "goodbye")
            assert sock.disconnect("ada") is True
        for each in (one, other):
            assert list(each) == ["goodbye"]
            assert (each.close_code, each.close_reason) == (4001, "")
        grace.send("still")
        assert grace.receive() == "still grace"
    assert sorted(ended) == [(1000, ""), (4001, ""), (4001, "")]


def test_disconnect_has_a_code_and_a_reason(app: Flask, sock: Sock, kind: str) -> None:
    """A reason that is too long is cut between two characters."""
    declare(sock, kind)
    with as_user(app, "ada") as ada, app.app_context():
        ada.receive()
        assert sock.disconnect("ada", 4321, "é" * 62)
        assert list(ada) == []
        assert (ada.close_code, ada.close_reason) == (4321, "é" * 61)


def test_who_is_disconnected_is_received_from_no_more(app: Flask, sock: Sock) -> None:
    """Not even what has arrived, and waits for the handler."""
    received: list[Any] = []
    goes_on, is_asked = threading.Event(), threading.Event()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.receive()
        is_asked.set()
        goes_on.wait(10)
        received.extend(ws)

    with as_user(app, "ada") as ada:
        ada.send("first")
        assert is_asked.wait(10)
        ada.send("second")
        with app.app_context():
            sock.disconnect("ada")
        goes_on.set()
        assert list(ada) == []
    assert received == []


def test_connections_are_counted_while_they_are_open(app: Flask, sock: Sock, kind: str) -> None:
    declare(sock, kind)
    with app.app_context():
        assert sock.connections("ada") == 0
        with as_user(app, "ada") as one, as_user(app, "ada") as other, as_user(app, "grace"):
            one.receive(), other.receive()
            assert sock.connections("ada") == 2
        assert sock.connections("ada") == 0


def test_an_identity_may_say_when_it_expires(app: Flask, sock: Sock, kind: str) -> None:
    """The connection ends then: here, at once."""
    sock.identify(lambda: Identity("ada", expires_at=1.0))
    declare(sock, kind)
    with connect(app, "/") as ada:
        list(ada)
        assert (ada.close_code, ada.close_reason) == (4001, "the login has expired")


def test_identify_may_refuse_the_handshake(app: Flask, sock: Sock) -> None:
    sock.identify(lambda: flask.abort(401))
    declare(sock, "handler")
    with pytest.raises(HandshakeRefused) as caught, connect(app, "/"):
        pass
    assert caught.value.response.status_code == 401


@pytest.mark.parametrize("identity", [7, b"ada", "", "x" * 256, "\ud800"])
def test_what_is_no_identity_is_refused_in_words(app: Flask, sock: Sock, identity: Any) -> None:
    """Where the app returns it, and where it passes it."""
    sock.identify(lambda: identity)
    declare(sock, "handler")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises((TypeError, ValueError), match="identity"), connect(app, "/"):
        pass
    with app.app_context():
        for call in (
            sock.connections,
            sock.disconnect,
            sock.ticket,
            lambda identity: sock.send_to(identity, "text"),
        ):
            with pytest.raises((TypeError, ValueError), match="identity"):
                call(identity)


def test_the_longest_identity_is_reached(app: Flask, sock: Sock) -> None:
    declare(sock, "handler")
    name = "x" * 255
    with as_user(app, name) as ws, app.app_context():
        ws.receive()
        sock.send_to(name, "text")
        assert ws.receive() == "text"


def test_no_client_can_subscribe_to_what_is_sent_to_a_user(app: Flask, sock: Sock) -> None:
    """The names of these channels are flask-ws's own."""
    names: list[str] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        for message in ws:
            with pytest.raises(ValueError, match="begin"):
                ws.subscribe(str(message))
            names.append(str(message))

    with connect(app, "/") as ws:
        ws.send(IDENTITY + "ada")
    assert names == [IDENTITY + "ada"]


def test_an_identity_takes_none_of_the_subscriptions(app: Flask, sock: Sock) -> None:
    """SOCK_MAX_SUBSCRIPTIONS counts those of the app."""

    @sock.route("/", max_subscriptions=2)
    def handler(ws: WebSocket) -> None:
        for message in ws:
            ws.subscribe(str(message))
            ws.send(message)

    with as_user(app, "ada") as ws:
        for name in ("a", "b"):
            ws.send(name)
            assert ws.receive() == name
        ws.send("c")
        assert list(ws) == []
        assert ws.close_code == 1008


def test_what_is_sent_to_a_user_has_no_history(app: Flask, sock: Sock) -> None:
    """Whatever patterns SOCK_HISTORY has."""
    app.config["SOCK_HISTORY"] = {"*": (10, 60)}
    declare(sock, "handler")
    with as_user(app, "ada") as ws, app.app_context():
        ws.receive()
        published = sock.send_to("ada", "text")
        assert published
        assert published.position is None
        assert ws.receive() == "text"


def test_what_is_declared_must_be_a_function(sock: Sock) -> None:
    declare_: Any
    for declare_ in (sock.identify, sock.recheck, sock.recheck(seconds=1)):
        with pytest.raises(TypeError, match="function"):
            declare_("ada")
