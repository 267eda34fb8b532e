"""What both kinds of conversation do when a method of an event view has raised."""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.close_codes import INTERNAL_ERROR
from .advice import explain_exception, explain_late_send, is_closed
from .async_websocket import AsyncWebSocket
from .context import Scope
from .websocket import WebSocket

__all__ = ["Outcome"]


class Outcome:
    """Reports what methods raise, and ends the connection for it.

    :param scope: where the methods run.
    :param report: reports an exception of one of them.
    """

    __slots__ = ("_report", "_scope")

    def __init__(self, scope: Scope, report: Callable[[Exception], None]) -> None:
        self._scope = scope
        self._report = report

    def _handle(
        self,
        method: Callable[..., object],
        ws: WebSocket | AsyncWebSocket,
        error: Exception,
        by: int | None = None,
    ) -> None:
        """Handle an exception of a method; of a connection that has ended there is none.

        :param by: what the method runs on; by default this thread.
        """
        if is_closed(error):
            explain_late_send(method, ws, error, by)
        else:
            self._fail(error)
            explain_exception(method, error)

    def _fail(self, error: Exception) -> None:
        """Report an exception, and close the connection."""
        try:
            self._report(error)
        finally:
            self._send_close(INTERNAL_ERROR)

    def _send_close(self, code: int) -> None:
        """Send a close frame, without waiting for the answer."""
        raise NotImplementedError
