"""Detached handlers: requests that run on threads of flask-ws's own.

A server with few workers gets its worker back as soon as a WebSocket is open. The whole request
runs on the thread, from Flask's dispatch to the end of the handler: so the handler has the very
request context, ``g`` and thread-locals that ``before_request`` functions left, and teardown
functions run once, when it ends.
"""

from __future__ import annotations

import contextvars
import io
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from ..exceptions import NoSocket
from ..loop.pool import thread_pool
from ..plugin.hookspecs import ServerSocket
from ..plugin.manager import plugins
from .handshake import is_upgrade, spare_hop_by_hop

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from ..options import Options

__all__ = ["CROWDED", "DISPATCH", "NOTHING", "NO_SOCKET", "SERVER_SOCKET", "Detacher", "Dispatch"]

logger = logging.getLogger("flask_ws")

#: Environ keys, by which the rooms that a request passes through tell each other of it.
SERVER_SOCKET = "flask_ws.server_socket"
DISPATCH = "flask_ws.dispatch"
CROWDED = "flask_ws.crowded"
NO_SOCKET = "flask_ws.no_socket"
#: The body of the server's own 101. A server may send the head no earlier than a first chunk, and
#: is to do so before the end, when the socket is drained.
NOTHING = (b"",)
#: How the environ keys begin of objects that belong to the server's worker.
SERVER_KEYS = ("wsgi.early_hints", "gunicorn.", "werkzeug.s", SERVER_SOCKET)


class Dispatch:
    """One request on a thread of its own, and a server's worker that waits for the answer."""

    __slots__ = ("_app", "_environ", "_error", "_iterable", "_pending", "_started", "released")

    def __init__(self, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        self._app = app
        self._environ = environ
        #: Whether the server has its worker back.
        self.released = False
        # Free once there is an answer: all that an event would do, at a tenth of its size.
        self._pending = threading.Lock()
        self._pending.acquire()
        # What the worker is to do: call start_response so, and return that.
        self._started: tuple[Any, ...] = ()
        self._iterable: Iterable[bytes] = ()
        self._error: BaseException | None = None

    def start(self, max_threads: int) -> bool:
        """Start the thread; ``False`` where there are too many."""
        # In the context of the worker's thread, where middleware may have left something.
        return thread_pool().start(max_threads, contextvars.copy_context().run, self._run)

    def answer(self, start_response: StartResponse) -> Iterable[bytes]:
        """Answer the server as the request says, when it does."""
        with self._pending:
            pass
        if self._error is not None:
            raise self._error
        start_response(*self._started)
        return self._iterable

    def copy_environ(self) -> WSGIEnvironment:
        """Copy the environ for the rest of the request, without the server's own objects.

        The server goes through its environ, to log it, while this thread may change its own.
        """
        environ = {
            key: value for key, value in self._environ.items() if not key.startswith(SERVER_KEYS)
        }
        environ["wsgi.input"] = io.BytesIO()
        return environ

    def release(self, drain: Callable[[], None]) -> None:
        """Give the server its worker back, with a 101 to log.

        :param drain: called when the server is done with the connection's dead socket.
        """
        self._started = ("101 Switching Protocols", [])
        self._iterable = ClosingIterator(NOTHING, [drain, self._let_go])
        self.released = True
        self._pending.release()

    def _let_go(self) -> None:
        # The thread lives as long as the connection, and its callers hold on to the server's
        # environ: what is the server's in there is of no use any more.
        for key in list(self._environ):
            if key.startswith(SERVER_KEYS):
                del self._environ[key]
        self._environ["wsgi.input"] = io.BytesIO()
        self._iterable = ()

    def _run(self) -> None:
        try:
            iterable = self._app(self._environ, self._start_response)
            if self.released:
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
            else:
                self._iterable = iterable
        except BaseException as error:
            if not self.released:
                self._error = error
            elif isinstance(error, Exception):
                # The server, which would have logged it, is not there any more.
                logger.exception("An error after the end of a WebSocket handler")
        finally:
            if not self.released:
                self._pending.release()

    def _start_response(self, *arguments: Any) -> Callable[[bytes], object]:
        if not self.released:
            self._started = arguments
        return _no_write


def _no_write(_data: bytes) -> object:
    raise RuntimeError("Flask's responses do not use write()")


class Detacher:
    """WSGI middleware that runs WebSocket requests on threads, where the server has few.

    :param app: the application.
    :param read_options: reads the app's options.
    """

    def __init__(self, app: WSGIApplication, read_options: Callable[[], Options]) -> None:
        self._app = app
        self._read_options = read_options

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        start_response = spare_hop_by_hop(start_response)
        if not is_upgrade(environ):
            return self._app(environ, start_response)
        server_socket = find_socket(environ)
        options = self._read_options()
        if server_socket is None or not options.detach:
            return self._app(environ, start_response)
        if server_socket.detach:
            dispatch = environ[DISPATCH] = Dispatch(self._app, environ)
            if dispatch.start(options.max_threads):
                return dispatch.answer(start_response)
            # An event view needs none.
            del environ[DISPATCH]
            environ[CROWDED] = True
        if server_socket.detach or server_socket.detachable:
            # The connection of an event view outlives the request, and so must its environ: a
            # server may clear it then.
            environ = environ.copy()
        return self._app(environ, start_response)


def find_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Ask the plugins for a request's socket, once; why there is none, the environ says then."""
    if SERVER_SOCKET not in environ:
        try:
            environ[SERVER_SOCKET] = plugins.get_socket(environ)
        except NoSocket as error:
            environ[SERVER_SOCKET] = None
            environ[NO_SOCKET] = str(error)
    found: ServerSocket | None = environ[SERVER_SOCKET]
    return found
