"""WebSocket routes for Flask, on the WSGI servers that people run."""

from __future__ import annotations

from .buffered import take_buffered
from .concurrency import Concurrency
from .exceptions import ConfigurationError, ConnectionClosed, FlaskWSError
from .extension import Sock
from .hookspecs import ServerSocket, hookimpl
from .options import Options
from .views import WebSocketView
from .websocket import WebSocket

__all__ = [
    "Concurrency",
    "ConfigurationError",
    "ConnectionClosed",
    "FlaskWSError",
    "Options",
    "ServerSocket",
    "Sock",
    "WebSocket",
    "WebSocketView",
    "hookimpl",
    "take_buffered",
]
