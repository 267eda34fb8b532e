"""``flask ws load``, on an app that Werkzeug serves in a thread."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result
from flask import Flask, abort
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE
from werkzeug.serving import make_server

from flask_ws import Sock, WebSocket
from flask_ws.cli import load_clients, ws
from flask_ws.cli.load_clients import Client, Latencies, Load


@pytest.fixture
def url(app: Flask, sock: Sock) -> Iterator[str]:
    """Where an app is served: with an echo, and routes that do other things."""

    @sock.route("/echo")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    @sock.route("/leave")
    def leave(ws: WebSocket) -> None:
        ws.receive()
        ws.close(4000)

    @app.route("/private", websocket=True)
    def private() -> Any:
        abort(401)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"ws://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def load(url: str, *arguments: str) -> Result:
    command = ["load", url, "--opening", "1000", *arguments]
    return CliRunner().invoke(ws, command)


def test_each_answer_is_counted_and_timed(url: str) -> None:
    result = load(f"{url}/echo", "--clients", "5", "--rate", "20", "--duration", "0.5")
    assert result.exit_code == 0
    assert result.output.startswith("Opened:    5 of 5 clients in ")
    sent, received = re.findall(r"(\d+) sent, (\d+) received", result.output)[0]
    assert int(sent) >= 5
    assert abs(int(sent) - int(received)) <= 5
    assert re.search(
        r"Latency: +p50 [\d.]+, p90 [\d.]+, p99 [\d.]+, p99.9 [\d.]+, max", result.output
    )


def test_clients_may_be_silent(url: str) -> None:
    result = load(f"{url}/echo", "--clients", "3", "--rate", "0", "--duration", "0.1")
    assert result.exit_code == 0
    assert "0 sent, 0 received" in result.output


@pytest.mark.parametrize(("path", "status"), [("/private", 401), ("/nowhere", 404)])
def test_refusals_are_counted_by_status(url: str, path: str, status: int) -> None:
    result = load(url + path, "--clients", "3", "--duration", "0.1")
    assert result.exit_code == 1
    assert f"Failed:    3 x {status}" in result.output


def test_connections_that_end_early_are_counted_by_code(url: str) -> None:
    result = load(f"{url}/leave", "--clients", "3", "--rate", "20", "--duration", "0.5")
    assert result.exit_code == 1
    assert "Dropped:   3 x 4000" in result.output


def test_a_server_that_is_not_there_is_said() -> None:
    result = load("ws://127.0.0.1:1/", "--clients", "2", "--duration", "0.1")
    assert result.exit_code == 1
    assert "Failed:    2 x ConnectionRefusedError" in result.output


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_each_that_is_not_answered_is_counted(listening: socket.socket) -> None:
    def close() -> None:
        for _ in range(3):
            listening.accept()[0].close()

    closing = in_thread(close)
    url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
    result = load(url, "--clients", "3", "--duration", "0.1")
    closing.result(PATIENCE)
    assert "Failed:    3 x no answer" in result.output


def test_an_answer_is_not_waited_for_for_ever(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_clients, "PATIENCE", 0.1)
    url = f"ws://127.0.0.1:{listening.getsockname()[1]}/"
    result = load(url, "--clients", "2", "--duration", "0.1")
    assert result.exit_code == 1
    assert "Failed:    2 x no answer" in result.output


def test_an_interrupted_test_has_a_summary(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the seconds that it took until then."""
    found: list[Load] = []
    run = Load.run

    def note(self: Load, *args: Any) -> Any:
        found.append(self)
        return run(self, *args)

    def interrupt(client: Client, *_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Load, "run", note)
    monkeypatch.setattr(Client, "_send", interrupt)
    result = load(f"{url}/echo", "--clients", "1", "--rate", "20", "--duration", "10")
    assert result.exit_code == 1
    assert result.output.startswith("Opened:    1 of 1 clients")
    assert 0 < found[0].seconds < 10


def test_another_machine_is_left_alone_unless_told() -> None:
    result = load("ws://192.0.2.1/", "--clients", "1")
    assert result.exit_code == 1
    assert "--yes-remote" in result.output


def test_more_clients_than_descriptors_are_too_many(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_ws.cli.load.descriptor_limit", lambda: 100)
    result = load(f"{url}/echo", "--clients", "200")
    assert result.exit_code == 1
    assert "ulimit -n 232" in result.output


def test_a_path_is_not_enough() -> None:
    assert load("/echo").exit_code == 2


# Latencies


def test_percentiles_are_right_to_two_per_cent() -> None:
    latencies = Latencies()
    for number in range(1, 1001):
        latencies.add(number / 1000)
    assert latencies.percentile(50) == pytest.approx(0.5, rel=0.03)
    assert latencies.percentile(99) == pytest.approx(0.99, rel=0.03)
    assert latencies.percentile(100) == latencies.longest == 1.0


def test_there_may_be_none() -> None:
    assert Latencies().percentile(99) == 0.0
