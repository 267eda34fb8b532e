"""HTTP requests: by a2wsgi, which is told of clients that have gone.

A server for WSGI raises an error where the app writes to a client that has gone, or reads from it.
ASGI tells of that by an event, which a2wsgi does not wait for: a response without end would keep a
thread for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from a2wsgi import WSGIMiddleware
from werkzeug.exceptions import ClientDisconnected

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["HTTP", "Receive", "Send"]

Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: The key of a scope where its :class:`Request` is found.
REQUEST = "flask_ws.request"
#: Methods of requests that have no body which the app may still read.
BODILESS = frozenset({"GET", "HEAD"})


class HTTP:
    """An ASGI application of a WSGI app, for HTTP alone.

    :param app: the WSGI app.
    :param threads: how many requests run at the same time.
    """

    def __init__(self, app: WSGIApplication, threads: int) -> None:
        self._app = app
        middleware: Any = WSGIMiddleware(self._call, workers=threads)  # type: ignore[arg-type]
        self._middleware = middleware
        #: The threads.
        self.executor: Executor = middleware.executor

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request."""
        request = scope[REQUEST] = Request(scope["method"], receive, send)
        try:
            await self._middleware(scope, request.receive, request.send)
        finally:
            request.end()
        if request.error is not None:
            raise request.error

    def _call(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if "CONTENT_LENGTH" not in environ:
            # The end of a chunked body is told by the server; Werkzeug would read none of it.
            environ["wsgi.input_terminated"] = True
        request: Request = environ["asgi.scope"][REQUEST]
        return request.pass_on(self._app(environ, start_response))


class Request:
    """One request and its response.

    :param method: the request's method.
    :param receive: returns the server's next event.
    :param send: gives the server one.
    """

    __slots__ = ("_chunks", "_has_read", "_is_gone", "_receive", "_send", "_watch", "error")

    def __init__(self, method: str, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._has_read = method in BODILESS
        self._is_gone = False
        self._chunks = 0
        self._watch: asyncio.Task[None] | None = None
        #: What the server has raised, if that does not mean that the client has gone.
        self.error: Exception | None = None

    def pass_on(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on the app's response until the client goes."""
        try:
            for chunk in body:
                yield chunk
                if self._is_gone:
                    return
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    async def receive(self) -> Event:
        """Receive a part of the request's body."""
        event = await self._receive()
        if event["type"] == "http.disconnect":
            self._is_gone = True
            # Else what has come would be taken for all of it.
            raise ClientDisconnected
        if not event.get("more_body"):
            self._has_read = True
        return event

    async def send(self, event: dict[str, Any]) -> None:
        """Send a part of the response."""
        if self._is_gone:
            return
        try:
            await self._send(event)
        except OSError:
            self._is_gone = True
        except Exception as error:
            # Raised when the app has ended: a2wsgi would have it wait for ever.
            self._is_gone = True
            self.error = error
        if event.get("more_body"):
            self._chunks += 1
            # The first is all that most responses have.
            if self._chunks == 2 and self._has_read:
                self._watch = asyncio.get_running_loop().create_task(self._await_end())

    async def _await_end(self) -> None:
        with contextlib.suppress(Exception):
            while (await self._receive())["type"] != "http.disconnect":
                pass
        self._is_gone = True

    def end(self) -> None:
        """Note that nobody sends any more."""
        self._is_gone = True
        if self._watch is not None:
            self._watch.cancel()
