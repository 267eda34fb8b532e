"""A blocking handler on its connection, from its first line to its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import flask

from ..connection.connection import Connection
from ..exceptions import ConnectionClosed
from ..label import LABEL
from ..protocol.close_codes import GOING_AWAY, INTERNAL_ERROR
from ..views.advice import (
    SessionWatch,
    check_result,
    explain_exception,
    explain_foreign_end,
    explain_late_send,
)
from ..views.context import log_exception, tear_down_with
from ..views.websocket import WebSocket
from ..whereabouts import Whereabouts
from .identity import enter
from .upgrade import Upgrade

__all__ = ["report", "run_handler"]

logger = logging.getLogger("flask_ws")


def run_handler(
    upgrade: Upgrade, connection: Connection, ws: WebSocket, report: Callable[[Exception], None]
) -> None:
    """Run a handler, and close the connection with the code for how it ended.

    :param upgrade: the handshake, with the handler.
    :param connection: the connection; and
    :param ws: as the handler sees it.
    :param report: reports an exception of the handler.
    """
    handler: Callable[..., object] = upgrade.target
    session = SessionWatch()
    connection.at_work = time.monotonic()
    connection.work = Whereabouts()
    try:
        try:
            enter(upgrade, connection, ws, report)
            result = handler(ws, *upgrade.args, **upgrade.kwargs)
        finally:
            connection.at_work = 0.0
            connection.work = None
        check_result(handler, result)
    except ConnectionClosed as error:
        tear_down_with(error)
        if ws.connected:
            explain_foreign_end(handler)
        explain_late_send(handler, ws, error)
        ws.close()
    except Exception as error:
        tear_down_with(error)
        report(error)
        explain_exception(handler, error)
        ws.close(INTERNAL_ERROR)
    except BaseException as error:
        # GreenletExit, SystemExit, KeyboardInterrupt: the server stops.
        tear_down_with(error)
        ws.close(GOING_AWAY)
        raise
    else:
        returned = ws.connected
        # Also where a close frame has been sent already: this waits for the peer's.
        ws.close()
        state = connection.state
        if returned and not state.close_reason:
            # For threads that the handler has started, and that still send.
            state.close_reason = "the handler has returned"
    finally:
        session.check(handler)


def report(error: Exception, tell: Callable[[Exception], object] | None = None) -> None:
    """Report an exception of a handler or an event view as Flask reports a view's.

    Receivers of the signal, or the app's ``log_exception()``, may raise: that is logged.

    :param error: the exception.
    :param tell: called with it instead of logging it.
    """
    app = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    try:
        flask.got_request_exception.send(app, exception=error)
        if tell is None:
            log_exception(error)
    except Exception:
        # What was to be reported is the context of this one, and in the log with it.
        label = flask.request.environ.get(LABEL, "A WebSocket")
        logger.exception("%s: an exception could not be reported.", label)
    if tell is not None:
        tell(error)
