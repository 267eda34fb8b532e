"""Metrics of flask-ws for Prometheus."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any

import flask
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric

from flask_ws import (
    RouteStats,
    Sock,
    Stats,
    connection_closed,
    connection_opened,
    handshake_refused,
)

__all__ = ["WebSocketMetrics"]

#: Seconds after which the files of a process are brought up to date, where it has some.
INTERVAL = 5.0
#: Numbers of a process that rise and fall.
LEVELS = ("handler_threads", "buffered", "channels", "subscribers", "members")
#: Seconds that connections last.
BUCKETS = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 4 * 3600.0, 24 * 3600.0)


class WebSocketMetrics:
    """The metrics of an app's WebSockets, in a registry of prometheus_client.

    They are brought up to date when the registry is scraped. Where ``PROMETHEUS_MULTIPROC_DIR`` is
    set, another process may be: then each process does so every five seconds.

    :param app: the app, if there is one already; otherwise :meth:`init_app` follows.
    :param registry: where they are registered.
    :param prefix: what their names begin with.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        registry: CollectorRegistry = REGISTRY,
        prefix: str = "flask_ws_server",
    ) -> None:
        # Registered first, so that it is asked before the metrics are.
        registry.register(self)
        self._app: flask.Flask | None = None
        self._sock = Sock()
        self._lock = threading.Lock()
        # What the counters have been told of the process that has this number.
        self._pid = 0
        self._told: dict[tuple[str, ...], float] = {}
        self._updating = 0
        self._make_metrics(prefix, registry)
        if app is not None:
            self.init_app(app)

    def _make_metrics(self, prefix: str, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"{prefix}_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str, mode: Any = "livesum") -> Gauge:
            return Gauge(
                f"{prefix}_{name}", text, labels, registry=registry, multiprocess_mode=mode
            )

        self._gauges = {
            "open": gauge("active_connections", "Open connections", "endpoint"),
            "outbox": gauge("outbox_bytes", "Bytes that wait for clients", "endpoint"),
            "handler_threads": gauge("handler_threads", "Handlers on threads of flask-ws's own"),
            "buffered": gauge("buffered_bytes", "Bytes held for clients"),
            "channels": gauge("channels", "Channels that have subscribers, in each process"),
            "subscribers": gauge("subscribers", "Connections subscribed to a channel"),
            "members": gauge("members", "Memberships of open connections in channels"),
            "draining": gauge("draining", "Processes that say goodbye to their clients"),
            "connected": gauge(
                "broker_connected", "Whether the broker is connected", mode="livemin"
            ),
        }
        # It is scraped, by way of other processes, before this one has to do with WebSockets.
        self._gauges["connected"].set(1)
        self._counters = {
            "opened": counter("connections", "Connections opened", "endpoint"),
            "refused": counter("refused_handshakes", "Handshakes refused", "endpoint", "status"),
            "messages": counter("messages", "Messages", "endpoint", "direction"),
            "bytes": counter("io_bytes", "Bytes received and sent", "endpoint", "direction"),
            "slow_readers": counter(
                "slow_readers", "Connections closed because the client read too slowly", "endpoint"
            ),
            "unanswered_pings": counter("unanswered_pings", "Lost: no pong", "endpoint"),
            "busy_seconds": counter(
                "callback_seconds", "Seconds spent in methods of event views", "endpoint"
            ),
            "publications": counter("publications", "Messages published"),
            "deliveries": counter("deliveries", "Messages sent to subscribers"),
            "dropped": counter("dropped", "Messages not sent to subscribers that read slowly"),
            "gaps": counter("gaps", "Subscribers that have missed messages"),
        }
        self._duration = Histogram(
            f"{prefix}_connection_duration_seconds",
            "How long connections were open, by close code",
            ("endpoint", "code"),
            buckets=BUCKETS,
            registry=registry,
        )

    def init_app(self, app: flask.Flask) -> None:
        """Export the metrics of an app.

        :param app: the app; one for each object of this class.
        :raises RuntimeError: there is one already.
        """
        if self._app is not None:
            raise RuntimeError(
                "One WebSocketMetrics is for one app: make another, with a registry or prefix of "
                "its own."
            )
        self._app = app
        app.extensions.setdefault("flask_ws_prometheus", []).append(self)
        connection_closed.connect(self._note_end, app)
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            connection_opened.connect(self._keep_updating, app)
            handshake_refused.connect(self._keep_updating, app)

    # For prometheus_client

    def collect(self) -> Iterable[Metric]:
        """Bring the metrics up to date: it is asked before them, and has none itself."""
        self.update()
        return ()

    def describe(self) -> Iterable[Metric]:
        """Describe nothing."""
        return ()

    # Updates

    def update(self) -> None:
        """Bring the metrics up to date now."""
        if self._app is None:
            return
        with self._lock:
            stats = self._sock.stats(self._app)
            if stats.pid != self._pid:
                # A forked process counts from 0.
                self._pid, self._told = stats.pid, {}
            self._update_process(stats)
            for endpoint, route in stats.routes.items():
                self._update_route(endpoint, route)

    def _update_process(self, stats: Stats) -> None:
        for name in LEVELS:
            self._gauges[name].set(getattr(stats, name))
        # Not of a process without connections: it may end now, and nobody would take that back.
        self._gauges["draining"].set(stats.draining and stats.connections > 0)
        self._gauges["connected"].set(stats.broker != "away")
        for name in ("publications", "deliveries", "dropped", "gaps"):
            self._count(name, getattr(stats, name))

    def _update_route(self, endpoint: str, route: RouteStats) -> None:
        for status, number in route.refused.items():
            self._count("refused", number, endpoint, str(status))
        if not endpoint:
            # What has no route is refused, and nothing else.
            return
        for name in ("open", "outbox"):
            self._gauges[name].labels(endpoint).set(getattr(route, name))
        for name in ("opened", "slow_readers", "unanswered_pings", "busy_seconds"):
            self._count(name, getattr(route, name), endpoint)
        for direction in ("in", "out"):
            for name in ("messages", "bytes"):
                self._count(name, getattr(route, f"{name}_{direction}"), endpoint, direction)

    def _count(self, name: str, total: float, *labels: str) -> None:
        counter, key = self._counters[name], (name, *labels)
        more = total - self._told.get(key, 0)
        self._told[key] = total
        (counter.labels(*labels) if labels else counter).inc(max(0, more))

    def _note_end(self, sender: object, endpoint: str, code: int, seconds: float, **_: Any) -> None:
        self._duration.labels(endpoint, str(code)).observe(seconds)
        if self._updating == os.getpid():
            self._update_after_the_last()

    def _update_after_the_last(self) -> None:
        """Leave nothing out where a process says goodbye, and ends."""
        if self._app is not None and not self._sock.stats(self._app).connections:
            self.update()

    def _keep_updating(self, sender: object, **_: Any) -> None:
        """Start the thread that writes what is scraped by way of files, once in each process."""
        with self._lock:
            if self._updating == os.getpid():
                return
            self._updating = os.getpid()
        threading.Thread(target=self._run, name="flask_ws_prometheus", daemon=True).start()

    def _run(self) -> None:
        never = threading.Event()
        while True:
            self.update()
            never.wait(INTERVAL)
