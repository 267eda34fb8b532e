"""Metrics of the app, collected once a second: far more often than in production."""

from __future__ import annotations

import threading

from flask import Flask

SECONDS = 1.0


def collect(app: Flask, kind: str) -> None:
    """Export an app's metrics.

    :param kind: ``prometheus`` or ``opentelemetry``.
    """
    {"prometheus": _scrape, "opentelemetry": _export}[kind](app)


def _scrape(app: Flask) -> None:
    from prometheus_client import generate_latest

    from flask_ws_prometheus import WebSocketMetrics

    WebSocketMetrics(app)
    never = threading.Event()

    def scrape() -> None:
        while not never.wait(SECONDS):
            generate_latest()

    threading.Thread(target=scrape, daemon=True).start()


def _export(app: Flask) -> None:
    from io import StringIO

    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import (
        ConsoleMetricExporter,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace import TracerProvider

    from flask_ws_opentelemetry import WebSocketTelemetry

    # Written as JSON, to nowhere.
    exporter = ConsoleMetricExporter(out=StringIO(), formatter=lambda data: data.to_json()[:0])
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000 * SECONDS)
    WebSocketTelemetry(
        app,
        tracer_provider=TracerProvider(),
        meter_provider=MeterProvider([reader]),
    )
