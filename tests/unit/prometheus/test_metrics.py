"""What Prometheus is told of an app's WebSockets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest
from tests.support.numbers import make_stats
from tests.support.waiting import until

from flask_ws import Sock, WebSocket
from flask_ws.testing import HandshakeRefused, connect
from flask_ws_prometheus import WebSocketMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(app: Flask, sock: Sock, registry: CollectorRegistry) -> WebSocketMetrics:
    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    return WebSocketMetrics(app, registry=registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """A sample, of a registry that is scraped for it."""
    generate_latest(registry)
    return registry.get_sample_value(f"flask_ws_server_{name}", labels)


@pytest.mark.usefixtures("metrics")
def test_every_message_is_told(app: Flask, sock: Sock, registry: CollectorRegistry) -> None:
    with connect(app, "/feed") as ws:
        for number in range(5):
            ws.send(str(number))
            ws.receive()
        incoming = {"endpoint": "feed", "direction": "in"}
        assert value(registry, "messages_total", **incoming) == 5
        assert value(registry, "active_connections", endpoint="feed") == 1
        # Scraped twice, and counted once.
        assert value(registry, "messages_total", **incoming) == 5
        ws.close(4000)
    until(lambda: value(registry, "active_connections", endpoint="feed") == 0)
    outgoing = {"endpoint": "feed", "direction": "out"}
    assert value(registry, "messages_total", **outgoing) == 5
    sent = sock.stats(app).routes["feed"].bytes_out
    assert value(registry, "io_bytes_total", **outgoing) == sent > 5 * 3
    assert value(registry, "connections_total", endpoint="feed") == 1


@pytest.mark.usefixtures("metrics")
def test_the_end_of_a_connection_is_told_by_its_code(
    app: Flask, registry: CollectorRegistry
) -> None:
    with connect(app, "/feed") as ws:
        ws.close(4000)
    labels = {"endpoint": "feed", "code": "4000"}
    name = "connection_duration_seconds_count"
    until(lambda: value(registry, name, **labels) == 1)


@pytest.mark.usefixtures("metrics")
def test_a_refusal_is_told_by_its_status(app: Flask, registry: CollectorRegistry) -> None:
    with pytest.raises(HandshakeRefused), connect(app, "/nowhere"):
        pass
    assert value(registry, "refused_handshakes_total", endpoint="", status="404") == 1
    # What has no route has no connections either.
    assert value(registry, "active_connections", endpoint="") is None


@pytest.mark.usefixtures("metrics")
def test_channels_are_told(app: Flask, sock: Sock, registry: CollectorRegistry) -> None:
    with app.app_context():
        sock.publish("news", "hello")
    assert value(registry, "publications_total") == 1
    assert value(registry, "gaps_total") == 0
    assert value(registry, "broker_connected") == 1


def test_every_number_of_the_process_is_told(
    metrics: WebSocketMetrics, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats, numbers = make_stats()
    monkeypatch.setattr(metrics._sock, "stats", lambda app: stats)
    generate_latest(registry)
    told = {sample.value for family in registry.collect() for sample in family.samples}
    assert set(numbers.values()) <= told
    assert value(registry, "draining") == 1


def test_a_process_without_connections_does_not_drain(
    app: Flask, sock: Sock, metrics: WebSocketMetrics, registry: CollectorRegistry
) -> None:
    """What it has written into its files stays there when it has ended."""
    with connect(app, "/feed") as ws:
        sock.drain()
        until(lambda: value(registry, "draining") == 1)
        ws.close()
    until(lambda: value(registry, "draining") == 0)
    assert sock.stats(app).draining


def test_one_object_is_for_one_app(metrics: WebSocketMetrics) -> None:
    with pytest.raises(RuntimeError, match="for one app"):
        metrics.init_app(Flask("another"))


def test_a_child_counts_from_the_beginning(
    app: Flask, metrics: WebSocketMetrics, registry: CollectorRegistry
) -> None:
    with app.app_context():
        Sock().publish("news", "hello")
    assert value(registry, "publications_total") == 1
    # As if the process were another, which has counted as many.
    metrics._pid = 0
    assert value(registry, "publications_total") == 2


SCRIPT = """
import os
from flask import Flask
from flask_ws import Sock
from flask_ws.testing import connect
from flask_ws_prometheus import WebSocketMetrics

app = Flask(__name__)
sock = Sock(app)
WebSocketMetrics(app)


@sock.route("/feed")
def feed(ws):
    for message in ws:
        ws.send(message)


with connect(app, "/feed") as ws:
    for _ in range(3):
        ws.send("hello")
        ws.receive()
"""

IDLE = """
from flask import Flask
from flask_ws_prometheus import WebSocketMetrics

WebSocketMetrics(Flask(__name__))
"""

SCRAPE = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def run(script: str, folder: Path) -> str:
    """Run a process of several; returns its output."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
    )
    return done.stdout


def test_a_process_without_websockets_does_not_say_that_the_broker_is_away(tmp_path: Path) -> None:
    run(IDLE, tmp_path)
    assert "flask_ws_server_broker_connected 1.0" in run(SCRAPE, tmp_path)


def test_processes_are_added_up(tmp_path: Path) -> None:
    """Also what they did just before they ended."""

    for _ in range(2):
        run(SCRIPT, tmp_path)
    scraped = run(SCRAPE, tmp_path)
    assert 'flask_ws_server_messages_total{direction="in",endpoint="feed"} 6.0' in scraped
    assert 'flask_ws_server_connections_total{endpoint="feed"} 2.0' in scraped
