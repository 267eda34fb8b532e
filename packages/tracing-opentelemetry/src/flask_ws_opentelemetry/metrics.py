"""Metrics: the numbers of ``sock.stats()``, whenever they are collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from flask_ws import RouteStats, Stats

__all__ = ["Metrics"]

#: Seconds that connections last.
BUCKETS = (0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 3600.0, 4 * 3600.0, 24 * 3600.0)
PREFIX = "flask_ws.server."
#: The names of directions, by those that numbers end with.
DIRECTIONS = {"in": "receive", "out": "transmit"}

Read = Callable[[Stats], Iterable[Observation]]


class Metrics:
    """The metrics of an app.

    :param meter: makes the instruments.
    :param read_stats: returns the app's numbers.
    """

    def __init__(self, meter: Meter, read_stats: Callable[[], Stats]) -> None:
        self._read_stats = read_stats
        # The numbers, and the instruments that have been given them.
        self._stats: Stats | None = None
        self._served: set[str] = set()
        self._duration = meter.create_histogram(
            f"{PREFIX}connection.duration",
            unit="s",
            description="How long connections were open",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        level, count = meter.create_observable_up_down_counter, meter.create_observable_counter
        for make, name, unit, text, read in (
            (level, "active_connections", "{connection}", "Open connections", by_route("open")),
            (level, "outbox", "By", "Bytes that wait for clients", by_route("outbox")),
            (level, "handler_threads", "{thread}", "Threads of handlers", total("handler_threads")),
            (level, "buffered", "By", "Bytes held for clients", total("buffered")),
            (level, "channels", "{channel}", "Channels with subscribers", total("channels")),
            (level, "subscribers", "{connection}", "Subscribed connections", total("subscribers")),
            (level, "members", "{member}", "Memberships in channels", total("members")),
            (level, "draining", "{process}", "Processes that say goodbye", read_draining),
            (count, "connections", "{connection}", "Connections opened", by_route("opened")),
            (count, "refused_handshakes", "{handshake}", "Handshakes refused", read_refusals),
            (count, "messages", "{message}", "Messages received and sent", by_way("messages")),
            (count, "io", "By", "Bytes received and sent", by_way("bytes")),
            (
                count,
                "slow_readers",
                "{connection}",
                "The client reads slowly",
                by_route("slow_readers"),
            ),
            (
                count,
                "unanswered_pings",
                "{connection}",
                "Lost: no pong",
                by_route("unanswered_pings"),
            ),
            (count, "callback", "s", "In methods of event views", by_route("busy_seconds")),
            (count, "publications", "{message}", "Messages published", total("publications")),
            (count, "gaps", "{gap}", "Subscribers missed messages", total("gaps")),
            (count, "deliveries", "{message}", "Messages sent to subscribers", total("deliveries")),
            (count, "dropped", "{message}", "Subscribers read too slowly", total("dropped")),
        ):
            make(PREFIX + name, [self._callback(name, read)], unit, text)
        meter.create_observable_gauge(
            PREFIX + "broker_connected",
            [self._callback("broker_connected", read_broker)],
            description="Whether the broker is not away",
        )

    def note_end(self, sender: object, endpoint: str, code: int, seconds: float, **_: Any) -> None:
        """Count how long a connection was open."""
        self._duration.record(seconds, {"flask.endpoint": endpoint, "websocket.close.code": code})

    def _callback(
        self, name: str, read: Read
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            # Added up once for all instruments of a collection, each of which asks once.
            if self._stats is None or name in self._served:
                self._stats = self._read_stats()
                self._served.clear()
            self._served.add(name)
            return read(self._stats)

        return observe


def total(name: str) -> Read:
    """Read a number of the process."""
    return lambda stats: [Observation(getattr(stats, name))]


def routes_of(stats: Stats) -> list[tuple[str, RouteStats]]:
    """Return the routes by endpoint; without what has none, which is refused and nothing else."""
    return [(endpoint, route) for endpoint, route in stats.routes.items() if endpoint]


def by_route(name: str) -> Read:
    """Read a number of each route."""

    def read(stats: Stats) -> Iterator[Observation]:
        for endpoint, route in routes_of(stats):
            yield Observation(getattr(route, name), describe(endpoint, route))

    return read


def by_way(name: str) -> Read:
    """Read a number that each route has for both directions."""

    def read(stats: Stats) -> Iterator[Observation]:
        for endpoint, route in routes_of(stats):
            for way, direction in DIRECTIONS.items():
                labels = describe(endpoint, route) | {"network.io.direction": direction}
                yield Observation(getattr(route, f"{name}_{way}"), labels)

    return read


def read_refusals(stats: Stats) -> Iterator[Observation]:
    """Read how many handshakes were refused, by status."""
    for endpoint, route in stats.routes.items():
        for status, number in route.refused.items():
            labels = describe(endpoint, route) | {"http.response.status_code": status}
            yield Observation(number, labels)


def read_draining(stats: Stats) -> list[Observation]:
    """Read whether the process says goodbye, and there is somebody whom it says it to."""
    return [Observation(int(stats.draining and stats.connections > 0))]


def read_broker(stats: Stats) -> list[Observation]:
    """Read whether the broker can be reached, as far as is known."""
    return [Observation(int(stats.broker != "away"))]


def describe(endpoint: str, route: RouteStats) -> dict[str, str | int]:
    """Return the attributes of a route; none of what has no route."""
    return {"flask.endpoint": endpoint, "http.route": route.rule} if endpoint else {}
