"""The loads: what is measured, with whom, and what the project wants to reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """A contender in a load."""

    contender: str
    path: str = "/echo"
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Tells two rows of one contender apart.
    note: str = ""

    @property
    def key(self) -> str:
        return f"{self.contender} {self.note}".strip()


@dataclass(frozen=True)
class Goal:
    """What a row is to reach: a ratio to another row, or a plain number."""

    row: str
    factor: float
    #: The other row; without one, `factor` is the limit itself.
    to: str = ""
    #: The load the other row is in, if it is not this one.
    to_load: str = ""
    metric: str = "value"
    at_most: bool = False
    text: str = ""


@dataclass(frozen=True)
class Load:
    title: str
    module: str
    unit: str
    rows: tuple[Row, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    #: Further results to show: key, heading and format.
    columns: tuple[tuple[str, str, str], ...] = ()
    goals: tuple[Goal, ...] = ()
    value_format: str = ",.0f"
    #: Whether to repeat what others at work on the machine have disturbed.
    timed: bool = True


TIMES = (("p50", "p50 ms", "ms"), ("p99", "p99 ms", "ms"))
OURS, OURS_MANY, SOCK = "flask-ws/gunicorn", "flask-ws/gunicorn-many", "flask-sock/gunicorn"
VIEW = Row("flask-ws/views", "/view/echo")
ASYNC = Row("flask-ws/async", "/async/echo")
UVLOOP = Row("flask-ws/uvloop", "/async/echo")
METRICS = tuple(
    Row(name, "/view/echo") for name in ("flask-ws/prometheus", "flask-ws/opentelemetry")
)
ASGI = (
    Row("flask-ws/asgi", "/async/echo", note="async handler"),
    Row("flask-ws/asgi", "/view/echo", note="event view"),
    Row("flask-ws/asgi", note="handler"),
)
SHORT = {"seconds": 1.0, "warm_up": 0.3}

LOADS: dict[str, Load] = {
    "small": Load(
        "50 connections echoing 32 bytes, binary",
        "echo_small",
        "messages/s",
        (
            # What is compared is measured close together: the machine may change meanwhile.
            Row("bare"),
            Row(OURS),
            VIEW,
            *METRICS,
            ASYNC,
            UVLOOP,
            Row("flask-ws/no-speedups"),
            Row(SOCK),
            *ASGI,
            Row("uvicorn"),
            Row("flask-ws/werkzeug"),
            Row("flask-sock/werkzeug"),
            Row("flask-ws/gevent"),
            Row("flask-sock/gevent"),
            Row("flask-ws/eventlet"),
            Row("flask-sock/eventlet"),
            Row("websockets"),
            Row("picows"),
        ),
        quick=SHORT,
        columns=TIMES,
        goals=(
            Goal(OURS, 2.8, SOCK),
            Goal(OURS, 1.4, "uvicorn"),
            Goal(OURS, 0.85, "bare"),
            Goal("flask-ws/werkzeug", 2.8, "flask-sock/werkzeug"),
            Goal("flask-ws/gevent", 1.8, "flask-sock/gevent"),
            Goal("flask-ws/eventlet", 1.8, "flask-sock/eventlet"),
            Goal("flask-ws/no-speedups", 2.2, SOCK),
            Goal("flask-ws/views", 0.9, OURS),
            *(Goal(row.contender, 0.98, "flask-ws/views") for row in METRICS),
            Goal("flask-ws/async", 1.5, "uvicorn"),
            Goal("flask-ws/async", 1.05, "flask-ws/views"),
            Goal("flask-ws/uvloop", 2, "uvicorn"),
            Goal("flask-ws/asgi async handler", 0.85, "uvicorn"),
            Goal("flask-ws/asgi event view", 0.6, "uvicorn"),
            Goal("flask-ws/asgi handler", 0.6, "uvicorn"),
            Goal("flask-ws/uvloop", 0.75, "picows"),
        ),
    ),
    "neighbour": Load(
        "50 connections echoing 32 bytes, beside a process that computes on the same core",
        "neighbour",
        "messages/s",
        (VIEW, ASYNC, UVLOOP, Row("uvicorn"), Row("picows")),
        quick=SHORT,
        columns=TIMES,
        goals=(Goal("flask-ws/async", 1, "uvicorn", metric="p99", at_most=True, text="p99"),),
        # The neighbour is one of the others that would have it repeated.
        timed=False,
    ),
    "large": Load(
        "4 connections echoing 1 MiB, binary",
        "echo_large",
        "messages/s",
        (
            Row(OURS),
            VIEW,
            ASYNC,
            UVLOOP,
            Row("flask-ws/no-speedups"),
            Row(SOCK),
            Row("websockets"),
            Row("uvicorn"),
            Row("bare"),
            Row("picows"),
        ),
        quick=SHORT,
        columns=TIMES,
        goals=(
            Goal(OURS, 4, SOCK),
            Goal(OURS, 0.9, "websockets"),
            Goal("flask-ws/views", 0.9, "uvicorn"),
            Goal("flask-ws/async", 1, "uvicorn"),
        ),
    ),
    "compressed": Load(
        "50 connections echoing 1 KiB of JSON text, compressed",
        "echo_compressed",
        "messages/s",
        (Row(OURS), VIEW, ASYNC, UVLOOP, Row(SOCK), Row("websockets"), Row("uvicorn")),
        quick=SHORT,
        columns=(*TIMES, ("compressed", "replies compressed", "percent")),
        goals=(Goal(OURS, 1.3, SOCK), Goal("flask-ws/async", 1, "uvicorn")),
    ),
    "idle": Load(
        "1000 idle connections",
        "idle",
        "KiB a connection",
        (
            Row(OURS_MANY),
            VIEW,
            ASYNC,
            UVLOOP,
            Row("flask-sock/gunicorn-many"),
            Row("websockets"),
            *ASGI,
            Row("uvicorn"),
            Row("bare"),
            Row("picows"),
        ),
        options={"connections": 1000},
        quick={"connections": 300},
        columns=(
            ("used", "after a message and a pong each", ".1f"),
            ("threads", "threads a connection", ".2f"),
            ("opened_per_second", "opened/s", ",.0f"),
        ),
        goals=(
            Goal(OURS_MANY, 0.6, "flask-sock/gunicorn-many", at_most=True),
            Goal(OURS_MANY, 1.01, metric="threads", at_most=True, text="threads a connection"),
        ),
        value_format=".1f",
        timed=False,
    ),
    "plain-http": Load(
        "8 connections asking for a page",
        "plain_http",
        "requests/s",
        (Row("flask-ws/asgi", "/page"), Row("a2wsgi", "/page")),
        quick=SHORT,
        columns=TIMES,
        # "No slower", but for the noise.
        goals=(Goal("flask-ws/asgi", 0.97, "a2wsgi"),),
    ),
    "round-trip": Load(
        "one connection, one 32-byte message at a time",
        "round_trip",
        "µs (median)",
        (
            Row(OURS),
            VIEW,
            ASYNC,
            UVLOOP,
            Row(SOCK),
            Row("websockets"),
            Row("uvicorn"),
            Row("bare"),
            Row("picows"),
        ),
        quick=SHORT,
        columns=(("p99", "p99 ms", "ms"),),
        value_format=".1f",
    ),
    "flood": Load(
        "one connection beside 8 that send control frames or empty fragments at full speed",
        "flood",
        "times the p99 beside 8 that send messages",
        tuple(
            Row(name, path, {"kind": kind}, kind)
            for name, path in (
                (OURS, "/echo"),
                ("flask-ws/views", "/view/echo"),
                ("flask-ws/gevent", "/echo"),
                ("flask-ws/eventlet", "/echo"),
            )
            for kind in ("pings", "pongs", "fragments")
        ),
        quick={"seconds": 2.0, "warm_up": 0.1},
        columns=(
            ("p50", "p50 ms", "ms"),
            ("p99", "p99 ms", "ms"),
            ("p99_messages", "p99 ms, messages", "ms"),
        ),
        value_format=".2f",
        goals=tuple(
            Goal(f"{name} {kind}", 1.0, at_most=True, text="times the p99 beside messages")
            for name in (OURS, "flask-ws/views", "flask-ws/gevent", "flask-ws/eventlet")
            for kind in ("pings", "pongs", "fragments")
        ),
    ),
    "opening": Load(
        "connections opened, used once and closed, 8 at a time",
        "opening",
        "connections/s",
        (
            Row(OURS),
            VIEW,
            ASYNC,
            UVLOOP,
            Row(SOCK),
            Row("flask-ws/werkzeug"),
            Row("flask-sock/werkzeug"),
            Row("websockets"),
            Row("uvicorn"),
            Row("bare"),
            Row("picows"),
        ),
        quick=SHORT,
        columns=(*TIMES, ("ended_well", "closed right", "percent")),
    ),
    "fan-out": Load(
        "one sender to 1000 receivers, 64 bytes",
        "fan_out",
        "deliveries/s",
        (
            Row("flask-sock/gunicorn-many", "", note="loop over send"),
            Row(OURS_MANY, "", note="loop over send"),
            Row(
                "flask-ws/views",
                "",
                {"subscribe_path": "/view/subscribe", "publish_path": "/view/publish"},
                "loop over send",
            ),
            Row(
                "flask-ws/views",
                "",
                {
                    "subscribe_path": "/view/subscribe",
                    "publish_path": "/view/publish",
                    "stalled": 1,
                },
                "loop, one reader stalled",
            ),
            Row(
                "flask-ws/channels",
                "",
                {"subscribe_path": "/channel/subscribe", "publish_path": "/channel/publish"},
            ),
            Row("flask-socketio", "", {"dialect": "socketio"}),
            Row("websockets/broadcast", ""),
            # What does not hang on messages that follow each other closely.
            Row("flask-sock/gunicorn-many", "", {"batch": 1}, "loop, one message at a time"),
            Row(
                "flask-ws/channels",
                "",
                {
                    "subscribe_path": "/channel/subscribe",
                    "publish_path": "/channel/publish",
                    "batch": 1,
                },
                "one message at a time",
            ),
            Row("websockets/broadcast", "", {"batch": 1}, "one message at a time"),
        ),
        options={"receivers": 1000},
        quick={**SHORT, "receivers": 300},
        columns=(("p50", "p50 ms, a batch", "ms"), ("p99", "p99 ms", "ms")),
        goals=(
            Goal("flask-ws/views loop over send", 1.5, "flask-sock/gunicorn-many loop over send"),
            # "No slower", but for the noise.
            Goal("flask-ws/views loop, one reader stalled", 0.95, "flask-ws/views loop over send"),
            Goal("flask-ws/channels", 4, "flask-sock/gunicorn-many loop over send"),
            Goal("flask-ws/channels", 3, "flask-socketio"),
            Goal("flask-ws/channels", 1, "websockets/broadcast"),
        ),
    ),
    "fan-out-compressed": Load(
        "one sender to 1000 receivers, 1 KiB of JSON text, compressed",
        "fan_out_compressed",
        "deliveries/s",
        (
            Row("flask-sock/gunicorn-many", "", note="loop over send"),
            Row(OURS_MANY, "", note="loop over send"),
            Row(
                "flask-ws/views",
                "",
                {"subscribe_path": "/view/subscribe", "publish_path": "/view/publish"},
                "loop over send",
            ),
            Row(
                "flask-ws/channels",
                "",
                {"subscribe_path": "/channel/subscribe", "publish_path": "/channel/publish"},
            ),
            Row("websockets/broadcast", ""),
        ),
        options={"receivers": 1000},
        quick={**SHORT, "receivers": 300},
        columns=(
            ("p50", "p50 ms, a batch", "ms"),
            ("p99", "p99 ms", "ms"),
            ("compressed", "deliveries compressed", "percent"),
        ),
        goals=(
            Goal("flask-ws/channels", 4, "flask-sock/gunicorn-many loop over send"),
            Goal("flask-ws/channels", 1, "websockets/broadcast"),
        ),
    ),
    "many": Load(
        "10 000 idle connections, then 1 % of them chatting",
        "idle",
        "KiB a connection",
        (VIEW, ASYNC, UVLOOP, Row("uvicorn"), Row("picows")),
        options={"connections": 10_000, "chatting": 0.01},
        quick={"connections": 2000},
        columns=(
            ("process_threads", "threads in all", ".0f"),
            ("opened_per_second", "opened/s", ",.0f"),
            ("lone_p99", "p99 ms, a lone one", "ms"),
            ("p99", "p99 ms, chatting", "ms"),
            ("p99_ratio", "ratio", ".2f"),
        ),
        goals=(
            Goal("flask-ws/views", 8, at_most=True, text="KiB a connection"),
            Goal(
                "flask-ws/views", 12, metric="process_threads", at_most=True, text="threads in all"
            ),
            Goal("flask-ws/views", 3, metric="p99_ratio", at_most=True, text="x a lone one's p99"),
            Goal("flask-ws/views", 0.02, metric="server_cpu", at_most=True, text="of a core, idle"),
            Goal("flask-ws/async", 10, at_most=True, text="KiB a connection"),
            # But for one that a server's pool of threads may start meanwhile.
            Goal(
                "flask-ws/async", 0.001, metric="threads", at_most=True, text="threads a connection"
            ),
            Goal("flask-ws/async", 2, metric="p99_ratio", at_most=True, text="x a lone one's p99"),
            Goal(
                "flask-ws/views",
                1,
                "flask-sock/gunicorn-many",
                to_load="idle",
                metric="opened_per_second",
            ),
        ),
        value_format=".1f",
    ),
}
