"""Tests of WebSocket routes: a client that needs no server."""

from __future__ import annotations

from .client import ClientWebSocket, HandshakeRefused, connect

__all__ = ["ClientWebSocket", "HandshakeRefused", "connect"]
