"""Detached handlers: requests that run on threads of flask-ws's own.

On a server with few workers, the worker is free as soon as a WebSocket is open. The whole request
runs on the thread, from Flask's dispatch to the end of the handler: so the handler has the same
request context, ``g`` and thread-locals that ``before_request`` functions left, and teardown
functions run once, when it ends.
"""

from __future__ import annotations

import contextvars
import io
import itertools
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.wsgi import ClosingIterator

from ..loop.pool import thread_pool
from ..views.context import own_context
from .admission import no_threads, too_many_threads
from .gateway import GATEWAY, Gateway
from .handshake import is_upgrade
from .head import SWITCHING, guard
from .secrets import hide_secrets

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from ..options import Options

__all__ = ["Detacher", "Dispatch"]

logger = logging.getLogger("flask_ws")

#: The body of the server's own 101: a server may send the head only with a first chunk.
NOTHING = (b"",)
#: Prefixes of environ keys whose objects belong to the server's worker.
SERVER_KEYS = ("wsgi.early_hints", "gunicorn.", "werkzeug.s", GATEWAY)


class Dispatch:
    """One request on a thread of its own, and a server's worker that waits for the answer."""

    __slots__ = (
        "_app",
        "_environ",
        "_error",
        "_gateway",
        "_iterable",
        "_pending",
        "_started",
        "_written",
        "released",
    )

    def __init__(self, gateway: Gateway, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        self._gateway = gateway
        self._app = app
        self._environ = environ
        #: Whether the server's worker is free for other requests.
        self.released = False
        # Released once there is an answer: it serves as an event, at a tenth of the size.
        self._pending = threading.Lock()
        self._pending.acquire()
        # For the worker: the arguments for start_response, and what to return.
        self._started: tuple[Any, ...] = ()
        self._iterable: Iterable[bytes] = ()
        self._error: BaseException | None = None
        # What the app wrote before that, with the callable that start_response returned.
        self._written: list[bytes] = []

    def start(self, max_threads: int) -> bool:
        """Start the thread; ``False`` if ``max_threads`` run already.

        :raises RuntimeError: the system has no more threads.
        """
        # In the context of the worker's thread: middleware may have set context variables.
        return thread_pool().start(max_threads, contextvars.copy_context().run, self._run)

    def answer(self, start_response: StartResponse) -> Iterable[bytes]:
        """Wait for the app's answer, and give it to the server."""
        with self._pending:
            pass
        if self._error is not None:
            raise self._error
        start_response(*self._started)
        return self._iterable

    def copy_environ(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        """Copy the request's environ for the rest of it, without the server's own objects.

        The server may iterate over its environ, for its log, while this thread changes the copy.

        :param environ: the environ as the app has it: middleware may have replaced it.
        """
        copy = {key: value for key, value in environ.items() if not key.startswith(SERVER_KEYS)}
        copy["wsgi.input"] = io.BytesIO()
        return copy

    def release(self, headers: list[tuple[str, str]], drain: Callable[[], None]) -> None:
        """Free the server's worker, and give it a 101 to log.

        :param headers: the headers of the 101.
        :param drain: called when the server is done with the connection's dead socket.
        """
        self._started = (SWITCHING, headers)
        self._iterable = ClosingIterator(NOTHING, [drain, self._let_go])
        self.released = True
        self._pending.release()

    def _let_go(self) -> None:
        # Middleware on the thread refers to the server's environ as long as the connection lives:
        # so the server's objects are removed from it.
        for key in list(self._environ):
            if key.startswith(SERVER_KEYS):
                del self._environ[key]
        self._environ["wsgi.input"] = io.BytesIO()
        self._iterable = ()

    def _run(self) -> None:
        own_context.set(True)
        try:
            self._finish(self._gateway.serve(self._app, self._environ, self._start_response))
        except BaseException as error:
            if not self.released:
                self._error = error
            elif isinstance(error, Exception):
                # The server, which would have logged it, has finished the request.
                logger.exception("An error after the end of a WebSocket handler")
        finally:
            # They refer to each other.
            self._gateway.dispatch = None
            if not self.released:
                self._pending.release()

    def _finish(self, iterable: Iterable[bytes]) -> None:
        """Finish the request on this thread, and hand its response over to the worker."""
        close = getattr(iterable, "close", None)
        first: list[bytes] = []
        try:
            if not self._started:
                # Generator middleware starts to run only here.
                iterable = iter(iterable)
                while not self._started:
                    first.append(next(iterable))
            if self.released:
                for _ in iterable:
                    pass
        except BaseException as error:
            if close is not None:
                close()
            if isinstance(error, StopIteration):
                raise AssertionError("The app has not called start_response().") from None
            raise
        if self.released:
            if close is not None:
                close()
        elif first or self._written:
            chunks = itertools.chain(self._written, first, iterable)
            self._iterable = ClosingIterator(chunks, close)
        else:
            self._iterable = iterable

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        if self._started and not exc_info:
            raise AssertionError("start_response() was called before, and has no exc_info now.")
        self._started = (status, headers, exc_info) if exc_info else (status, headers)
        return self._written.append


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
        if not is_upgrade(environ):
            return self._app(environ, guard(start_response, handshake=False))
        hide_secrets(environ)
        gateway: Gateway = environ.get(GATEWAY) or Gateway(environ)
        if gateway.serving:
            # An app within another one, which handles the request.
            return self._app(environ, start_response)
        start_response = guard(start_response, handshake=True)
        options, server_socket = self._read_options(), gateway.server_socket
        if server_socket is None or not options.detach:
            return gateway.serve(self._app, environ, start_response)
        if server_socket.detach:
            gateway.dispatch = dispatch = Dispatch(gateway, self._app, environ)
            try:
                started = dispatch.start(options.max_threads)
            except RuntimeError:
                gateway.no_room = no_threads()
            else:
                if started:
                    return dispatch.answer(start_response)
                gateway.no_room = too_many_threads(options)
            # An event view needs no thread.
            gateway.dispatch = None
        if server_socket.detach or server_socket.detachable:
            # The connection of an event view outlives the request, and so must its environ: a
            # server may clear its own when the request ends.
            environ = environ.copy()
        # An async handler takes the request context along, and leaves one behind that looks as if
        # the request went on: not for the next request that this thread serves.
        serve = contextvars.copy_context().run
        return serve(self._serve, gateway, environ, start_response)

    def _serve(
        self, gateway: Gateway, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        own_context.set(True)
        return gateway.serve(self._app, environ, start_response)
