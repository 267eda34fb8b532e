"""What is noted of each handshake and each connection: numbers, signals and lines of the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import flask

from ..label import Label
from ..tally import READS_TOO_SLOWLY, Tallies, Tally
from ..views.signals import (
    connection_closed,
    connection_opened,
    handshake_refused,
    slow_reader,
    tell,
)
from ..wording import describe_close, one_line, shown_address, shown_path
from .clients import clients

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.wrappers import Request

    from ..connection.async_connection import AnyConnection
    from ..views.async_websocket import AsyncWebSocket
    from ..views.websocket import WebSocket

__all__ = ["current_tally", "log_refusal", "make_label", "note_end", "note_start", "tallies_of"]

logger = logging.getLogger("flask_ws")

EXTENSION = "flask_ws.tallies"
#: The environ key that says that the refusal of a handshake has been logged.
REFUSAL_LOGGED = "flask_ws.refusal_logged"


def tallies_of(app: flask.Flask) -> Tallies:
    """Return an app's tallies; the app may be ``current_app``."""
    found: Tallies | None = app.extensions.get(EXTENSION)
    if found is None:
        # The app itself, where it is given as current_app.
        sender = getattr(app, "_get_current_object", lambda: app)()
        found = app.extensions.setdefault(EXTENSION, Tallies(sender))
    return found


def current_tally() -> Tally:
    """Return the tally of the current request's route, or of what has none."""
    rule = flask.request.url_rule
    endpoint = "" if rule is None else rule.endpoint
    return tallies_of(flask.current_app).get(endpoint, lambda: "" if rule is None else rule.rule)


def log_refusal(request: Request, code: int | None, text: str | None) -> None:
    """Log the refusal of a handshake in one line, and count it."""
    address, path = shown_address(request.environ), shown_path(request.environ)
    text = one_line(text or "")
    logger.warning(
        "WebSocket handshake from %s for %s refused: %s %s",
        address,
        path,
        code,
        text,
        extra={"ws_address": address, "ws_path": path, "ws_status": code},
    )
    request.environ[REFUSAL_LOGGED] = True
    if flask.has_request_context():
        tally = current_tally()
        tally.refuse(code or 0)
        endpoint = flask.request.endpoint or ""
        tell(handshake_refused, tally.sender, endpoint=endpoint, status=code, reason=text)


def make_label(environ: WSGIEnvironment) -> Label:
    """Name the connection of the current request, and give it an id and a tally."""
    endpoint = flask.request.endpoint or "-"
    label = Label.make(shown_address(environ), shown_path(environ), endpoint)
    label.tally = current_tally()
    return label


def note_start(connection: AnyConnection, ws: WebSocket | AsyncWebSocket) -> None:
    """Note that a connection was opened."""
    label = connection.label
    logger.debug("%s open", label)
    if label.tally is not None:
        label.tally.add(connection)
        tell(connection_opened, label.tally.sender, ws=ws, **label.parts())


def note_end(connection: AnyConnection, seconds: float) -> None:
    """Note how a connection has ended.

    :param connection: the connection.
    :param seconds: how long it was open.
    """
    label = connection.label
    if label.client is not None:
        clients.leave(label.client)
        label.client = None
    code, reason = connection.close_code or 0, connection.close_reason
    messages_in, messages_out, bytes_in, bytes_out, *_ = connection.counts
    numbers = {
        "seconds": round(seconds, 3),
        "messages_in": messages_in,
        "bytes_in": bytes_in,
        "messages_out": messages_out,
        "bytes_out": bytes_out,
    }
    logger.debug(
        "%s closed: %s, %.3f s, %d messages (%d bytes) in, %d messages (%d bytes) out",
        label,
        describe_close(code, reason),
        *numbers.values(),
        extra={f"ws_{name}": value for name, value in numbers.items()}
        | {"ws_code": code, "ws_reason": reason},
    )
    if label.tally is None:
        return
    label.tally.end(connection)
    facts = {**label.parts(), **numbers, "code": code, "reason": reason}
    if (code, reason) == READS_TOO_SLOWLY:
        tell(slow_reader, label.tally.sender, **facts)
    tell(connection_closed, label.tally.sender, **facts)
