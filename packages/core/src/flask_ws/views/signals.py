"""Signals: what happens to connections and to the broker, for apps and extensions."""

from __future__ import annotations

import logging
from typing import Any

import flask.signals

__all__ = [
    "broker_away",
    "broker_back",
    "connection_closed",
    "connection_opened",
    "handshake_refused",
    "slow_reader",
    "tell",
]

logger = logging.getLogger("flask_ws")

# Blinker's, or before Flask 2.3 what Flask has in its place where that is not installed.
_signals: Any = flask.signals.Namespace()  # type: ignore[attr-defined]

#: A connection was opened; its handler runs next. ``ws`` and the fields of the connection.
connection_opened = _signals.signal("connection-opened")
#: A connection has ended: its fields, and ``code``, ``reason``, ``seconds``, ``messages_in``,
#: ``messages_out``, ``bytes_in``, ``bytes_out``.
connection_closed = _signals.signal("connection-closed")
#: Before that, where the client has read too slowly; with the same.
slow_reader = _signals.signal("slow-reader")
#: A handshake was refused, within its request: ``endpoint``, ``status``, ``reason``.
handshake_refused = _signals.signal("handshake-refused")
#: The broker cannot be reached: ``reason``. It can again.
broker_away = _signals.signal("broker-away")
broker_back = _signals.signal("broker-back")


def tell(signal: Any, sender: object, **facts: Any) -> None:
    """Send a signal; what its receivers raise is logged, and ends nothing."""
    if not getattr(signal, "receivers", None):
        return
    try:
        signal.send(sender, **facts)
    except Exception:
        logger.exception("A receiver of the signal %s has failed.", signal.name)
