"""Telemetry of an app: the spans and the metrics of its WebSockets."""

from __future__ import annotations

import flask
from opentelemetry import metrics, trace

from flask_ws import Sock, connection_closed, connection_opened, handshake_refused

from .attributes import METER
from .connections import Connections
from .handshakes import Handshakes
from .messages import EXTENSION
from .metrics import Metrics

__all__ = ["WebSocketTelemetry"]


class WebSocketTelemetry:
    """The spans and metrics of an app's WebSockets, by the API of OpenTelemetry.

    There is a span for each handshake and one for each connection; those of messages are for
    routes that have :func:`trace_messages`. Where they go is for the providers to say, which an
    SDK of OpenTelemetry brings; without one, nothing is done.

    :param app: the app, if there is one already; otherwise :meth:`init_app` follows.
    :param tracer_provider: what makes the tracer; the global one by default.
    :param meter_provider: what makes the meter; the global one by default.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self.tracer = trace.get_tracer(METER, tracer_provider=tracer_provider)
        self._meter = metrics.get_meter(METER, meter_provider=meter_provider)
        self._connections = Connections(self.tracer)
        self._metrics: Metrics | None = None
        self._sock = Sock()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Tell of an app.

        :param app: the app; one for each object of this class.
        :raises RuntimeError: there is one already, or the app has another object.
        """
        if self._metrics is not None or EXTENSION in app.extensions:
            raise RuntimeError(
                "One WebSocketTelemetry is for one app: it was given one before, or the app has "
                "one already."
            )
        app.extensions[EXTENSION] = self
        self._metrics = Metrics(self._meter, lambda: self._sock.stats(app))
        app.wsgi_app = Handshakes(app.wsgi_app, self.tracer)  # type: ignore[method-assign]
        connections = self._connections
        connection_opened.connect(connections.note_start, app)
        connection_closed.connect(connections.note_end, app)
        connection_closed.connect(self._metrics.note_end, app)
        handshake_refused.connect(connections.note_refusal, app)
        flask.got_request_exception.connect(connections.note_exception, app)
