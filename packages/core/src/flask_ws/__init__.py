"""WebSocket routes for Flask, on the WSGI servers that people run.

::

    from flask import Flask
    from flask_ws import Sock

    app = Flask(__name__)
    sock = Sock(app)

    @sock.route("/echo")
    def echo(ws):
        for message in ws:
            ws.send(message)

A server needs its plugin: ``pip install 'flask-ws[werkzeug]'``, or gunicorn, eventlet, gevent.
:mod:`flask_ws.testing` tests routes without one. ``flask ws --help`` shows what there is on the
command line.
"""

from __future__ import annotations

from .borrowed import borrow_socket
from .brokers import Broker
from .buffered import take_buffered
from .concurrency import Concurrency, HomeThread
from .exceptions import (
    BrokerError,
    ConfigurationError,
    ConnectionClosed,
    FlaskWSError,
    NoSocket,
)
from .extension import Sock
from .hookspecs import ServerSocket, hookimpl
from .options import Options
from .views import WebSocketView
from .websocket import WebSocket

__all__ = [
    "Broker",
    "BrokerError",
    "Concurrency",
    "ConfigurationError",
    "ConnectionClosed",
    "FlaskWSError",
    "HomeThread",
    "NoSocket",
    "Options",
    "ServerSocket",
    "Sock",
    "WebSocket",
    "WebSocketView",
    "borrow_socket",
    "hookimpl",
    "take_buffered",
]
