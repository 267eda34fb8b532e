from __future__ import annotations

import inspect
import socket
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import json
from tests.support.raw import Peer

from flask_ws import AsyncWebSocket, ConnectionClosed, WebSocket
from flask_ws.channels.channels import Channels
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint, connection_of
from flask_ws.connection.transport import PlainTransport
from flask_ws.protocol.protocol import Protocol
from flask_ws.testing import AsyncClientWebSocket, ClientWebSocket
from flask_ws.views.async_websocket import AsyncEventWebSocket
from flask_ws.views.first_use import telling
from flask_ws.views.limiter import LimitedAsyncWebSocket, LimitedWebSocket
from flask_ws.views.websocket import EventWebSocket


@pytest.fixture
def ends() -> Iterator[tuple[WebSocket, Peer]]:
    client, server = socket.socketpair()
    connection = Connection(
        PlainTransport(server, threads, server.close),
        Protocol(),
        concurrency=threads,
        close_timeout=1,
        max_queue=16,
    )
    ws = WebSocket(
        connection,
        environ={"PATH_INFO": "/feed"},
        subprotocol="a",
        provider=json,
        channels=Channels({}),
    )
    with flask.Flask("app").app_context():
        yield ws, Peer(client)
    client.close()
    connection.release()


Pair = tuple[WebSocket, Peer]


@pytest.mark.parametrize("value", [{"a": [1, "ü", None]}, [], "text", 5, None, True])
def test_a_value_is_sent_as_json_in_a_text_message(ends: Pair, value: Any) -> None:
    ends[0].send_json(value)
    message = ends[1].read()

    assert isinstance(message, str)
    assert json.loads(message) == value


def test_what_the_provider_can_write_is_sent(ends: Pair) -> None:
    number = uuid.UUID(int=5)
    ends[0].send_json(number)

    assert json.loads(ends[1].read()) == str(number)


def test_arguments_are_passed_on_to_the_provider(ends: Pair) -> None:
    ends[0].send_json([1, 2], separators=(" ; ", ":"))

    assert ends[1].read() == "[1 ; 2]"


def test_what_the_provider_cannot_write_is_not_sent(ends: Pair) -> None:
    with pytest.raises(TypeError):
        ends[0].send_json(object())
    ends[0].send("next")

    assert ends[1].read() == "next"


@pytest.mark.parametrize("message", ['{"a": [1, "ü"]}', '{"a": [1, "ü"]}'.encode()])
def test_a_message_is_received_as_json(ends: Pair, message: str | bytes) -> None:
    ends[1].send(message)

    assert ends[0].receive_json() == {"a": [1, "ü"]}


def test_a_message_that_is_not_json_is_a_value_error(ends: Pair) -> None:
    ends[1].send("hello")

    with pytest.raises(ValueError, match="Expecting value"):
        ends[0].receive_json()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_that_is_nested_too_deeply_is_a_value_error(ends: Pair, opening: str) -> None:
    ends[1].send(opening * 30_000)

    with pytest.raises(ValueError, match="is not JSON"):
        ends[0].receive_json()


def test_a_message_that_is_not_json_does_no_harm(ends: Pair) -> None:
    ends[1].send("hello")
    with pytest.raises(ValueError, match="Expecting value"):
        ends[0].receive_json()
    ends[1].send("5")

    assert ends[0].receive_json() == 5


def test_no_json_in_time_is_none(ends: Pair) -> None:
    assert ends[0].receive_json(timeout=0) is None


def test_json_from_a_closed_connection_raises(ends: Pair) -> None:
    ends[1].send_close(4000)

    with pytest.raises(ConnectionClosed, match="4000"):
        ends[0].receive_json()


def test_the_subprotocol_is_told(ends: Pair) -> None:
    assert ends[0].subprotocol == "a"


def test_the_environ_is_that_of_the_request(ends: Pair) -> None:
    assert ends[0].environ["PATH_INFO"] == "/feed"


def test_an_open_connection_says_so(ends: Pair) -> None:
    assert repr(ends[0]) == "<WebSocket /feed open>"


def test_a_closed_connection_says_so(ends: Pair) -> None:
    ends[1].send_close(4000)
    assert list(ends[0]) == []

    assert repr(ends[0]) == "<WebSocket /feed closed 4000>"


def test_a_closing_connection_says_so(ends: Pair) -> None:
    connection_of(ends[0]).go_away(1001, "")

    assert repr(ends[0]) == "<WebSocket /feed closed>"


# What a completion shows

NAMES = {
    "close",
    "close_code",
    "close_reason",
    "connected",
    "environ",
    "expires_at",
    "id",
    "identity",
    "join",
    "leave",
    "ping",
    "receive",
    "receive_json",
    "send",
    "send_json",
    "subprotocol",
    "subscribe",
    "subscribe_presence",
    "unsubscribe",
    "unsubscribe_presence",
}


@pytest.mark.parametrize("kind", [WebSocket, EventWebSocket, LimitedWebSocket, telling(WebSocket)])
def test_it_shows_what_an_app_should_call(kind: type[WebSocket]) -> None:
    """And nothing of what drives it."""
    assert shown(kind) == NAMES


@pytest.mark.parametrize("kind", [AsyncWebSocket, AsyncEventWebSocket, LimitedAsyncWebSocket])
def test_an_async_one_shows_its_loop_as_well(kind: type[AsyncWebSocket]) -> None:
    """Tasks elsewhere hand their coroutines to it."""
    assert shown(kind) == NAMES | {"loop"}


@pytest.mark.parametrize("kind", [ClientWebSocket, AsyncClientWebSocket])
def test_a_clients_end_shows_what_a_test_should_call(kind: type) -> None:
    on_the_app = NAMES & shown(Endpoint) | {"advance", "drop"}
    assert shown(kind) == on_the_app


def shown(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_a_handler_may_keep_attributes_on_it(ends: Pair) -> None:
    ends[0].user = "ada"  # type: ignore[attr-defined]

    assert vars(ends[0]) == {"user": "ada"}


def test_a_weak_reference_to_it_can_be_kept(ends: Pair) -> None:
    assert weakref.ref(ends[0])() is ends[0]


def parameters(function: Any) -> list[tuple[str, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.default) for each in found]


def test_async_websocket_has_the_names_and_arguments_of_the_other() -> None:
    for name in NAMES:
        method = getattr(WebSocket, name)
        if inspect.isfunction(method):
            assert parameters(getattr(AsyncWebSocket, name)) == parameters(method), name
