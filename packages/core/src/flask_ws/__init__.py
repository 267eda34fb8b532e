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

A server needs its plugin: ``pip install "flask-ws[werkzeug]"``, or gunicorn, eventlet, gevent,
waitress or uwsgi in its place.
:mod:`flask_ws.testing` tests routes without one. ``flask ws --help`` lists the commands.
"""

from __future__ import annotations

from .channels.listening import Listening, Message
from .channels.results import Published, Subscription
from .concurrency import Concurrency, HomeThread
from .exceptions import (
    BrokerError,
    ConfigurationError,
    ConnectionClosed,
    FlaskWSError,
    NoSocket,
)
from .identity.identities import Identity
from .live.view import AsyncChannelView, ChannelView
from .loop.monitor import notice_stop
from .options import Options
from .plugin.brokers import Broker
from .plugin.health import BrokerHealth
from .plugin.history import History, Position, Retention
from .plugin.hookspecs import ServerMessages, ServerSocket, hookimpl
from .plugin.listener import BrokerListener, BrokerWish
from .plugin.listening import ListeningBroker
from .plugin.presence import Lease, MemberChange, Members
from .plugin.sockets import borrow_socket, take_buffered, unwrap_input
from .routes.extension import Sock
from .tally import RouteStats, Stats
from .views.async_websocket import AsyncWebSocket
from .views.logs import LogFilter
from .views.signals import (
    broker_away,
    broker_back,
    connection_closed,
    connection_opened,
    handshake_refused,
    slow_reader,
)
from .views.view import AsyncWebSocketView, WebSocketView
from .views.websocket import WebSocket

__all__ = [
    "AsyncChannelView",
    "AsyncWebSocket",
    "AsyncWebSocketView",
    "Broker",
    "BrokerError",
    "BrokerHealth",
    "BrokerListener",
    "BrokerWish",
    "ChannelView",
    "Concurrency",
    "ConfigurationError",
    "ConnectionClosed",
    "FlaskWSError",
    "History",
    "HomeThread",
    "Identity",
    "Lease",
    "Listening",
    "ListeningBroker",
    "LogFilter",
    "MemberChange",
    "Members",
    "Message",
    "NoSocket",
    "Options",
    "Position",
    "Published",
    "Retention",
    "RouteStats",
    "ServerMessages",
    "ServerSocket",
    "Sock",
    "Stats",
    "Subscription",
    "WebSocket",
    "WebSocketView",
    "borrow_socket",
    "broker_away",
    "broker_back",
    "connection_closed",
    "connection_opened",
    "handshake_refused",
    "hookimpl",
    "notice_stop",
    "slow_reader",
    "take_buffered",
    "unwrap_input",
]
