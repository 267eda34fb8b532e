"""Traces and metrics of flask-ws for OpenTelemetry."""

from .messages import trace_messages
from .telemetry import WebSocketTelemetry

__all__ = ["WebSocketTelemetry", "trace_messages"]
