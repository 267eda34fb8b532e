"""An event view on its connection: when its methods are called, and in which context."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from ..connection.connection import Connection
from ..connection.cork import Cork, corks
from ..connection.endpoint import connection_of
from ..label import LABEL, Label
from ..protocol.close_codes import GOING_AWAY
from .advice import check_result
from .context import Scope, move_request
from .limiter import Limiter
from .outcome import Outcome
from .view import WebSocketView
from .websocket import EventWebSocket

__all__ = ["Conversation", "lighten"]


#: Prefixes of environ keys that an idle connection need not keep: the server's own objects.
HEAVY_KEYS = ("wsgi.", "asgi.", "werkzeug.", "gunicorn.", "eventlet.", "flask_ws.")
KEPT_KEYS = (
    "wsgi.version",
    "wsgi.url_scheme",
    "wsgi.multithread",
    "wsgi.multiprocess",
    # Which an ASGI server keeps as long.
    "asgi.scope",
    LABEL,
)


class Conversation(Outcome):
    """A view's instance on its connection: calls its methods, each in the request context.

    :param view: the instance.
    :param ws: the connection.
    :param report: reports an exception of one of its methods.
    :param limiter: limits what it receives.
    """

    __slots__ = ("_connection", "_limiter", "closed", "has_more", "view", "ws")

    def __init__(
        self,
        view: WebSocketView,
        ws: EventWebSocket,
        report: Callable[[Exception], None],
        limiter: Limiter | None = None,
    ) -> None:
        self.view = view
        self.ws = ws
        self._connection: Connection = connection_of(ws)
        self._limiter = limiter
        #: Whether ``on_close`` has been called.
        self.closed = False
        #: Whether to call :meth:`serve` again, after other connections have been served.
        self.has_more = False
        # Before Scope() copies the context: the copies then have this environ.
        ws.environ = lighten(ws.environ)
        move_request(ws.environ)
        super().__init__(Scope(), report)

    @property
    def fd(self) -> int:
        """The file descriptor of the connection's socket."""
        return self._connection.fd

    @property
    def label(self) -> Label:
        """The connection's name in logs."""
        return self._connection.label

    @property
    def at_work(self) -> float:
        """When the method has begun that is running; 0 if none is."""
        return self._connection.at_work

    @property
    def ended(self) -> bool:
        """Whether the connection is closed or lost."""
        return self._connection.state.close_code is not None

    def stop_lingering(self) -> None:
        """Give the peer no more time to read the close frame."""
        self._connection.state.linger_until = None

    # Positional-only, here and below: a variable of the URL may have any name.
    def open(self, /, *args: Any, **kwargs: Any) -> None:
        """Call ``on_open``.

        :param args: what decorators pass on by position.
        :param kwargs: the URL's variables.
        """
        on_open = self.view.on_open
        if type(self.view).on_open is not WebSocketView.on_open:
            call = functools.partial(on_open, self.ws, *args, **kwargs)
            self._run(self._call, on_open, None, call)
            self._scope.leave()

    def serve(self, *, read: bool = True, wait: bool = False, cork: Cork | None = None) -> bool:
        """Read once, call the view for what came, and call ``on_close`` if the connection ended.

        :param read: whether to read at all.
        :param wait: whether to wait for something to read.
        :param cork: holds back what the view sends while there are more messages for it.
        :return: whether there is more to come. If not, the connection is to be released.
        """
        connection = self._connection
        if self.closed:
            # on_close was called; the peer has some time to read the close frame.
            return connection.receiver.discard(wait=wait)
        receiver = connection.receiver
        message = receiver.next_message(read=read, wait=wait)
        if message is None:
            # Nothing came, or only a ping or a pong.
            self._scope.leave()
        elif cork is None or not receiver.has_more:
            self._run(self._deliver, message)
        else:
            corks.current = cork
            try:
                self._run(self._deliver, message)
            finally:
                corks.current = None
                cork.release()
        if connection.state.close_code is None:
            self.has_more = receiver.cut_short
            if wait and self.has_more:
                connection.concurrency.pause()
            return True
        self.has_more = receiver.has_unread
        if self.has_more:
            return True
        self.close()
        return connection.state.linger_until is not None

    def give_up(self) -> None:
        """End the connection at once: its view raised to end the thread or process."""
        self._connection.go_away(GOING_AWAY, "")
        self._connection.lose("the server stops")
        if not self.closed:
            self.close()

    def _deliver(self, message: str | bytes | None) -> None:
        on_message = self.view.on_message
        connection, limiter = self._connection, self._limiter
        next_message = connection.receiver.next_message
        while message is not None:
            if limiter is None or (limiter.wait(connection) and limiter.admit(connection)):
                self._call(on_message, message)
            message = next_message()

    def close(self) -> None:
        """Call ``on_close``."""
        self.closed = True
        ws, on_close = self.ws, self.view.on_close
        if type(self.view).on_close is not WebSocketView.on_close:
            code: Any = ws.close_code
            call = functools.partial(on_close, ws, code, ws.close_reason)
            self._run(self._call, on_close, None, call)
        self._scope.leave()

    def _run(self, function: Callable[..., object], *args: Any) -> None:
        connection = self._connection
        connection.at_work = began = monotonic()
        try:
            context = self._scope.entered or self._scope.enter()
            context.run(function, *args)
        finally:
            connection.at_work = 0.0
            connection.busy += monotonic() - began

    # Not with *args: for each message, they would be made and taken apart once more.
    def _call(
        self,
        method: Callable[..., object],
        message: str | bytes | None,
        call: Callable[[], object] | None = None,
    ) -> None:
        """Call a method with a message; or by ``call``, if it takes something else."""
        error: BaseException | None = None
        try:
            result = method(self.ws, message) if call is None else call()
            if result is not None:
                check_result(method, result)
        except Exception as raised:
            error = raised
            self._handle(method, self.ws, raised)
        except BaseException as raised:
            error = raised
            raise
        finally:
            # What the end of a request does.
            try:
                self._scope.tear_down(error)
            except Exception as raised:
                self._fail(raised)

    def _send_close(self, code: int) -> None:
        self.ws.close(code)


def lighten(environ: dict[str, Any]) -> dict[str, Any]:
    """Copy an environ without the server's own objects."""
    light = {key: value for key, value in environ.items() if not key.startswith(HEAVY_KEYS)}
    for key in KEPT_KEYS:
        if key in environ:
            light[key] = environ[key]
    light["wsgi.run_once"] = False
    light["wsgi.input"] = io.BytesIO()
    light["wsgi.errors"] = sys.stderr
    return light
