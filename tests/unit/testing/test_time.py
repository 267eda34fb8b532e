"""Time that passes for a connection when the test says so."""

from __future__ import annotations

import time

import pytest
from flask import Flask

from flask_ws import AsyncWebSocket, ConnectionClosed, Sock, WebSocket, WebSocketView
from flask_ws.connection.endpoint import connection_of
from flask_ws.protocol.control import read_control
from flask_ws.protocol.events import Event
from flask_ws.testing import connect

HOUR = 3600.0


@pytest.fixture
def ends(app: Flask, sock: Sock) -> list[int | None]:
    """The close codes of an echo, and of a view that only listens."""
    codes: list[int | None] = []

    @sock.route("/echo")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)
        codes.append(ws.close_code)

    @sock.route("/view")
    class View(WebSocketView):
        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            codes.append(code)

    @sock.route("/async")
    async def coroutine(ws: AsyncWebSocket) -> None:
        async for _ in ws:
            pass
        codes.append(ws.close_code)

    return codes


@pytest.mark.parametrize("path", ["/echo", "/view", "/async"])
def test_a_silent_client_is_given_up(app: Flask, ends: list[int | None], path: str) -> None:
    app.config.update(SOCK_PING_INTERVAL=30, SOCK_PING_TIMEOUT=10)
    with connect(app, path) as ws:
        ws.advance(41, silent=True)
    assert ends == [1006]


def test_it_is_not_given_up_before(app: Flask, ends: list[int | None]) -> None:
    app.config.update(SOCK_PING_INTERVAL=30, SOCK_PING_TIMEOUT=10)
    with connect(app, "/echo") as ws:
        ws.advance(29, silent=True)
        ws.advance(9, silent=True)
        ws.send("still there")
        assert ws.receive() == "still there"
    assert ends == [1000]


@pytest.mark.parametrize("path", ["/echo", "/view", "/async"])
def test_a_client_that_answers_stays(app: Flask, ends: list[int | None], path: str) -> None:
    with connect(app, path) as ws:
        ws.advance(HOUR)
        assert ws.connected
    assert ends == [1000]


def test_a_thread_that_reads_late_has_its_time(
    app: Flask, ends: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a starved thread has read a pong in part, no time passes for it."""

    def read_late(first: int, payload: bytes) -> Event | None:
        time.sleep(0.1)
        return read_control(first, payload)

    monkeypatch.setattr("flask_ws.protocol.incoming.read_control", read_late)
    app.config.update(SOCK_PING_INTERVAL=400)
    with connect(app, "/echo") as ws:
        ws.advance(HOUR / 2)
        assert ws.connected
    assert ends == [1000]


def test_no_real_time_passes(app: Flask, ends: list[int | None]) -> None:
    began = time.monotonic()
    with connect(app, "/echo") as ws:
        ws.advance(HOUR)
    assert time.monotonic() - began < HOUR / 60


def test_pings_are_sent_as_often_as_is_set(app: Flask, ends: list[int | None]) -> None:
    app.config.update(SOCK_PING_INTERVAL=60)
    with connect(app, "/view") as ws:
        before = connection_of(ws).bytes_received
        ws.advance(HOUR / 2)
        half = connection_of(ws).bytes_received - before
        ws.advance(HOUR / 2)
        assert connection_of(ws).bytes_received - before == pytest.approx(2 * half, rel=0.1)
        # A ping of this kind takes two bytes, or a few more with its payload.
        assert half >= 2 * 15


def test_without_pings_nothing_happens(app: Flask, ends: list[int | None]) -> None:
    app.config.update(SOCK_PING_INTERVAL=None)
    with connect(app, "/echo") as ws:
        ws.advance(HOUR, silent=True)
        assert ws.connected


def test_on_a_closed_connection_nothing_happens(app: Flask, ends: list[int | None]) -> None:
    with connect(app, "/echo") as ws:
        ws.close()
        ws.advance(HOUR)
    assert ends == [1000]


def test_the_client_sees_the_loss(app: Flask, ends: list[int | None]) -> None:
    with connect(app, "/echo") as ws:
        ws.advance(HOUR, silent=True)
        with pytest.raises(ConnectionClosed):
            ws.receive()
        assert ws.close_code == 1006


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_does_not_run_backwards(app: Flask, ends: list[int | None], seconds: float) -> None:
    with connect(app, "/echo") as ws, pytest.raises(ValueError, match="seconds to pass"):
        ws.advance(seconds)
