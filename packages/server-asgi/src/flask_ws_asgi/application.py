"""The ASGI application: HTTP by a2wsgi, WebSockets by flask-ws."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any

from .environ import MESSAGES, drop_underscores, make_environ
from .exchange import Exchange
from .plain import HTTP, Receive, Send
from .stopping import Stopping

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["ASGI"]

#: The key of a scope whose WebSockets are served.
SERVED = "flask_ws.asgi"
#: Seconds after which it is looked again whether all handlers have ended.
LOOK = 0.02


class ASGI:
    """An ASGI application of a Flask app, with its WebSocket routes.

    ::

        asgi = ASGI(app)

    HTTP requests run on threads. WebSocket handlers run as they do on any server: blocking ones on
    threads of flask-ws's own, async ones on the server's loop, event views without a thread while
    they are idle.

    :param app: the Flask app, or WSGI middleware around it.
    :param threads: how many HTTP requests run at the same time, and handshakes among them. A
        handshake for which none is free within 10 seconds is refused with 503.
    :param stop_timeout: seconds that handlers have, once the server says that it stops, where it
        does not wait for them itself.
    :raises TypeError: ``app`` is no WSGI app.
    """

    def __init__(
        self, app: WSGIApplication, *, threads: int = 10, stop_timeout: float = 2.0
    ) -> None:
        if not callable(app):
            raise TypeError(f"ASGI takes the app itself, as in ASGI(app), not {app!r}.")
        if any(map(inspect.iscoroutinefunction, (app, type(app).__call__))):
            raise TypeError(f"ASGI takes a WSGI app, such as Flask's, and {app!r} is one of ASGI.")
        self._app = app
        self._http = HTTP(app, threads)
        # How many threads of it are to be started before handlers have theirs.
        self._unstarted = threads
        self._stopping = Stopping(stop_timeout)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request, a WebSocket, or the life of the server.

        :raises RuntimeError: the server does not run on asyncio.
        :raises ValueError: the scope is of another type.
        """
        require_asyncio()
        kind = scope["type"]
        # Else flask-ws would say that no WebSockets reach the app behind a2wsgi.
        scope[SERVED] = True
        drop_underscores(scope)
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"ASGI has no scope of the type {kind!r} that flask-ws knows.")

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._stopping)
        # Also where the server does not tell of its life.
        self._stopping.watch(exchange.loop)
        if self._stopping():
            await exchange.turn_away()
            return
        environ = make_environ(scope)
        environ[MESSAGES] = exchange
        if self._unstarted:
            self._start_threads()
        self._stopping.open += 1
        try:
            # This frame lives as long as the connection.
            run = exchange.run(self._http.executor, self._app, environ)
            del scope, exchange, environ, receive, send
            await run
        finally:
            self._stopping.open -= 1

    def _start_threads(self) -> None:
        """Start the threads of requests, while the system has some: handlers may take the last."""
        threads, self._unstarted = self._unstarted, 0
        is_started = threading.Event()
        with contextlib.suppress(RuntimeError):
            # Each of them waits, so that another one is started for the next call.
            for _ in range(threads):
                self._http.executor.submit(is_started.wait)
        is_started.set()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                self._stopping.start_anew()
                self._stopping.watch(asyncio.get_running_loop())
                await send({"type": "lifespan.startup.complete"})
            else:
                self._stopping.begin()
                deadline = time.monotonic() + self._stopping.timeout
                while self._stopping.open and time.monotonic() < deadline:
                    await asyncio.sleep(LOOK)
                await send({"type": "lifespan.shutdown.complete"})
                return


def require_asyncio() -> None:
    """Say what to do where the server runs on Trio.

    :raises RuntimeError: it does.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "flask_ws_asgi needs a server that runs on asyncio: start Hypercorn with "
            "--worker-class asyncio, its default, or uvloop."
        ) from None
