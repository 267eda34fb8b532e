"""An async event view on its connection: its methods, one after the other, in one task."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable
from typing import Any

from ..connection.async_connection import AsyncConnection
from ..exceptions import ConnectionClosed
from ..protocol.close_codes import GOING_AWAY, INTERNAL_ERROR
from .advice import check_result, log_cancelled
from .async_websocket import AsyncWebSocket, this_task
from .context import Scope
from .limiter import Limiter, receive_limited
from .outcome import Outcome
from .view import AsyncWebSocketView, WebSocketView

__all__ = ["AsyncConversation"]

#: Methods that do nothing, and need no request context for that.
INHERITED = frozenset(
    getattr(view, name)
    for view in (WebSocketView, AsyncWebSocketView)
    for name in ("on_open", "on_close")
)


class AsyncConversation(Outcome):
    """A view's instance on its connection: calls its methods, each in the request context.

    :param view: the instance.
    :param is_cancelled: tells whether flask-ws has cancelled the task: because a method went on
        after the connection's end, or because the process ends.
    :param ws: what its methods are given.
    :param connection: the connection.
    :param scope: where they run; the task that runs the conversation is in its context.
    :param report: reports an exception of one of its methods.
    :param ready: called when ``on_open`` has returned.
    :param limiter: limits what it receives.
    """

    __slots__ = (
        "_connection",
        "_is_cancelled",
        "_limiter",
        "_ready",
        "_view",
        "_ws",
    )

    def __init__(
        self,
        view: WebSocketView | AsyncWebSocketView,
        is_cancelled: Callable[[], bool],
        *,
        ws: AsyncWebSocket,
        connection: AsyncConnection,
        scope: Scope,
        report: Callable[[Exception], None],
        ready: Callable[[], object] | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        super().__init__(scope, report)
        self._limiter = limiter
        self._view = view
        self._ws = ws
        self._connection = connection
        self._is_cancelled = is_cancelled
        self._ready = ready

    # Positional-only, here and below: a variable of the URL may have any name.
    async def run(self, /, *args: Any, **kwargs: Any) -> None:
        """Call the methods, from ``on_open`` to ``on_close``.

        :param args: what decorators pass on by position.
        :param kwargs: the URL's variables.
        """
        connection, view = self._connection, self._view
        call, on_message = self._call, view.on_message
        receive: Callable[[], Any] = connection.receive
        if self._limiter is not None:
            receive = functools.partial(receive_limited, connection, self._limiter)
        try:
            if type(view).on_open not in INHERITED:
                await call(view.on_open, *args, **kwargs)
            if self._ready is not None:
                self._ready()
            while True:
                await call(on_message, await receive())
        except ConnectionClosed:
            pass
        except asyncio.CancelledError:
            # The process ends.
            connection.go_away(GOING_AWAY, "")
            connection.lose("the server stops")
        if type(view).on_close not in INHERITED:
            await call(view.on_close, connection.close_code, connection.close_reason)

    async def _call(self, method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        connection = self._connection
        error: BaseException | None = None
        connection.at_work = began = time.monotonic()
        try:
            result = method(self._ws, *args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            if result is not None:
                check_result(method, result)
        except asyncio.CancelledError as raised:
            error = raised
            if not self._is_cancelled():
                log_cancelled(method, connection.label, raised)
                connection.go_away(INTERNAL_ERROR, "")
            elif connection.close_code is None:
                raise
        except Exception as raised:
            error = raised
            self._handle(method, self._ws, raised, this_task())
        except BaseException as raised:
            # Such as SystemExit: the loop goes on, for the other connections.
            error = raised
            connection.go_away(GOING_AWAY, "")
        finally:
            connection.at_work = 0.0
            connection.busy += time.monotonic() - began
            # What the end of a request does.
            try:
                self._scope.tear_down(error)
            except Exception as raised:
                self._fail(raised)
            except BaseException:
                connection.go_away(GOING_AWAY, "")

    def _send_close(self, code: int) -> None:
        self._connection.go_away(code, "")
