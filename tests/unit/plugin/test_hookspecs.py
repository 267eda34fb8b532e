"""Each field of ServerSocket, and each hook for servers, does what its section of the page says."""

from __future__ import annotations

import dataclasses
import inspect
import socket
import threading
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Flask
from tests.support.memory import MemoryServer, in_thread, tcp_pair
from tests.support.raw import encode_message
from tests.support.waiting import PATIENCE

from flask_ws import Concurrency, ServerSocket, Sock, WebSocket, hookimpl
from flask_ws.concurrency import threads
from flask_ws.http import exchange
from flask_ws.loop import monitor as monitor_module
from flask_ws.loop.monitor import monitor_for
from flask_ws.plugin import hookspecs
from flask_ws.plugin.manager import Plugins

NONE: socket.socket = object()  # type: ignore[assignment]


@pytest.fixture
def echo(sock: Sock) -> None:
    @sock.route("/")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)


# The hook


def test_hook_flask_ws_get_socket_gets_the_environ_of_the_server() -> None:
    asked = []

    class Plugin:
        @hookimpl
        def flask_ws_get_socket(self, environ: dict[str, Any]) -> None:
            asked.append(environ)

    plugins = Plugins("flask_ws_test")
    plugins.register(Plugin())
    environ: dict[str, Any] = {}
    plugins.get_socket(environ)

    assert asked[0] is environ


# The fields


def test_field_sock_is_the_socket_of_the_connection(
    app: Flask, echo: None, server: MemoryServer
) -> None:
    pair = tcp_pair()
    peer = server.connect(app, pair=pair)

    assert peer.echo("hello") == "hello"
    peer.close()


def test_field_read_ahead_is_what_the_handler_receives_first(
    app: Flask, echo: None, server: MemoryServer
) -> None:
    peer = server.connect(app, read_ahead=encode_message("early"))

    assert peer.read() == "early"
    peer.close()


def test_field_read_ahead_is_nothing_unless_the_server_says_so() -> None:
    assert ServerSocket(NONE).take_read_ahead() == b""


def test_field_read_ahead_may_be_bytes() -> None:
    assert ServerSocket(NONE, read_ahead=b"early").take_read_ahead() == b"early"


def test_field_read_ahead_may_be_a_function() -> None:
    assert ServerSocket(NONE, read_ahead=lambda: b"early").take_read_ahead() == b"early"


def test_field_read_ahead_is_not_called_for_a_handshake_that_is_refused(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    calls = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None: ...

    @app.before_request
    def refuse() -> None:
        flask.abort(401)

    def take() -> bytes:
        calls.append(1)
        return b""

    assert server.refuse(app, read_ahead=take).status == 401
    assert calls == []


def test_field_detach_is_off_unless_the_server_says_so() -> None:
    """Handlers stay in the worker."""
    assert ServerSocket(NONE).detach is False


def test_field_detach_gives_the_server_its_worker_back(
    app: Flask, echo: None, server: MemoryServer
) -> None:
    call = server.call(app, detach=True)
    server.accepted(call)

    call.wait()
    assert call.peer.echo("hello") == "hello"
    call.peer.close()


def test_field_detachable_is_off_unless_the_server_says_so() -> None:
    assert ServerSocket(NONE).detachable is False


def test_field_detachable_leaves_handlers_in_the_worker(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    def name(ws: WebSocket) -> None:
        ws.send(threading.current_thread().name)

    assert server.connect(app, detachable=True).read() != "flask_ws.handler"


def test_field_is_stopping_is_never_unless_the_server_says_so() -> None:
    assert ServerSocket(NONE).is_stopping() is False


def test_field_is_stopping_is_one_for_all_servers_that_do_not_say() -> None:
    assert ServerSocket(NONE).is_stopping is ServerSocket(NONE).is_stopping


def test_field_is_stopping_has_the_client_told(
    app: Flask, echo: None, server: MemoryServer
) -> None:
    stopping = threading.Event()
    peer = server.connect(app, is_stopping=stopping.is_set)
    stopping.set()

    assert peer.read_close().close_code == 1001
    peer.send_close(1001)


def test_field_concurrency_is_of_threads_unless_the_server_says_so() -> None:
    assert ServerSocket(NONE).concurrency is threads


def test_field_concurrency_makes_the_locks_of_a_connection(
    app: Flask, echo: None, server: MemoryServer
) -> None:
    made = threading.Event()

    class Watched(Concurrency):
        name = "watched"

        def lock(self) -> Any:
            made.set()
            return super().lock()

    peer = server.connect(app, concurrency=Watched())

    assert made.wait(PATIENCE)
    peer.close()


def test_field_stop_timeout_is_two_seconds_unless_the_server_says_so() -> None:
    assert ServerSocket(NONE).stop_timeout == 2


def test_field_stop_timeout_is_the_time_a_handler_has_to_end(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "FAREWELL", 0.05)
    begun, released, returned = threading.Event(), threading.Event(), threading.Event()

    @sock.route("/busy")
    def busy(ws: WebSocket) -> None:
        begun.set()
        released.wait(PATIENCE)
        returned.set()

    with server.connect(app, "/busy", stop_timeout=PATIENCE) as peer:
        assert begun.wait(PATIENCE)
        saying = in_thread(monitor_for(threads).say_goodbye)
        peer.send_close(peer.read_close().close_code)
        # Ten times as long as a connection has on which no handler is at work.
        assert not returned.wait(0.5)
        assert not saying.done()
        released.set()
        saying.result(PATIENCE)
        assert returned.is_set()


def test_field_messages_are_none_unless_the_server_frames_them() -> None:
    assert ServerSocket(NONE).messages is None


def test_field_messages_takes_the_place_of_the_socket() -> None:
    messages: Any = object()
    made = ServerSocket.of_messages(messages)
    assert made.sock is None
    assert made.messages is messages
    # The server's worker is not for handlers.
    assert made.detach


# Versions: what plugins of version 0.1 were written for


FIELDS_OF_0_1 = [
    "sock",
    "read_ahead",
    "detach",
    "detachable",
    "is_stopping",
    "concurrency",
    "stop_timeout",
]
HOOKS_OF_0_1 = {"flask_ws_get_socket": ["environ"]}


def test_no_field_is_lost_or_moved() -> None:
    names = [field.name for field in dataclasses.fields(ServerSocket)]
    assert names[: len(FIELDS_OF_0_1)] == FIELDS_OF_0_1


def test_all_fields_but_the_socket_have_a_default() -> None:
    required = [
        field.name
        for field in dataclasses.fields(ServerSocket)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    assert required == ["sock"]


@pytest.mark.parametrize(("hook", "arguments"), HOOKS_OF_0_1.items())
def test_no_argument_of_a_hook_is_lost(hook: str, arguments: list[str]) -> None:
    specification: Callable[..., object] = getattr(hookspecs, hook)
    assert set(arguments) <= set(inspect.signature(specification).parameters)


def test_field_on_new_fileno_is_called_when_the_number_has_changed(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "WINDOWS", True)
    sock.route("/")(lambda ws: None)
    pair = socket.socketpair()
    before, seen = pair[1].fileno(), []
    call = server.call(
        app, pair=pair, detach=True, on_new_fileno=lambda: seen.append(pair[1].fileno())
    )
    server.accepted(call)
    call.peer.answer_close()
    call.wait()
    assert len(seen) == 1
    assert seen[0] != before
