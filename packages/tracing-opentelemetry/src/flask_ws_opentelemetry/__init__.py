"""Traces and metrics of flask-ws for OpenTelemetry.

- ``telemetry``: of an app: all of what follows.
- ``handshakes``, ``connections``, ``messages``: the spans of each.
- ``metrics``: the numbers of ``sock.stats()``, whenever they are collected.
- ``attributes``: what spans and metrics say, by OpenTelemetry's names.
"""

from .messages import trace_messages
from .telemetry import WebSocketTelemetry

__all__ = ["WebSocketTelemetry", "trace_messages"]
