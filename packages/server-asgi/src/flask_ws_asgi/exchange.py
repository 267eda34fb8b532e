"""One handshake: the request to the app, in WSGI, and the answer to the server, in ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, NoReturn

from flask_ws import ConnectionClosed

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

    from .plain import Receive, Send
    from .stopping import Stopping

__all__ = ["Exchange"]

logger = logging.getLogger("flask_ws")

Headers = list[tuple[str, str]]

#: The extension by which a refusal can be any HTTP response.
DENIAL = "websocket.http.response"
NO_STATUS, ABNORMAL = 1005, 1006
FORBIDDEN = 403
#: Seconds that a handshake waits for a thread; and after which clients may try again, on average.
PATIENCE = 10.0
RETRY_AFTER = 5
#: Bytes that the body of a refusal may have, and headers that go with it.
MOST_REFUSED = 2**20
OF_BODY = frozenset({"content-length", "content-encoding", "content-type"})
#: Headers that belong to the server.
HOP_BY_HOP = frozenset({"connection", "upgrade", "transfer-encoding", "keep-alive"})


class Response:
    """What the app answers, if it does not accept the handshake."""

    __slots__ = ("body", "headers", "status")

    def __init__(self) -> None:
        self.status = ""
        self.headers: Headers = []
        self.body: list[bytes] = []

    def make(self, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        """Have the app make it; what runs on an accepted connection may be in it."""
        iterable = app(environ, self.start)
        size = 0
        try:
            for chunk in iterable:
                self.body.append(chunk)
                size += len(chunk)
                if size > MOST_REFUSED:
                    # Not all servers take a body in parts, and one without end would fill memory.
                    self._leave_out_body(environ)
                    break
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def _leave_out_body(self, environ: WSGIEnvironment) -> None:
        self.body = []
        self.headers = [header for header in self.headers if header[0].lower() not in OF_BODY]
        logger.warning(
            "The refusal of the WebSocket handshake for %r has more than %d bytes: the client gets "
            "it without its body.",
            environ["PATH_INFO"],
            MOST_REFUSED,
        )

    def start(
        self, status: str, headers: Headers, exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Begin the response: the ``start_response`` that the app is given."""
        if self.status and not exc_info:
            raise AssertionError("start_response() was called before, and has no exc_info now.")
        self.status, self.headers = status, headers
        return self.body.append


def unavailable() -> Response:
    """Make the refusal of a handshake that nobody answers just now."""
    response = Response()
    # Not the same for all: else they come back together.
    after = random.randint(1, 2 * RETRY_AFTER - 1)  # noqa: S311
    response.start("503 Service Unavailable", [("Retry-After", str(after))])
    return response


class Exchange:
    """One handshake, and the server's side of the connection after it.

    :param scope: what ASGI tells of the request.
    :param receive: returns the server's next event.
    :param send: gives the server one.
    :param stopping: tells whether the server is stopping.
    """

    __slots__ = (
        "_accepted",
        "_has_closed",
        "_is_lost",
        "_is_told",
        "_receive",
        "_refusal",
        "_scope",
        "_send",
        "loop",
        "stopping",
    )

    def __init__(
        self, scope: Mapping[str, Any], receive: Receive, send: Send, stopping: Stopping
    ) -> None:
        self._scope: Mapping[str, Any] | None = scope
        self._receive = receive
        self._send = send
        #: Tells whether the server is stopping.
        self.stopping = stopping
        #: The server's loop.
        self.loop = asyncio.get_running_loop()
        # What is to serve the connection, once the app has accepted it.
        self._accepted: asyncio.Future[Callable[[], Coroutine[Any, Any, None]] | None] | None = None
        # The answer, where it is not the app's.
        self._refusal: Response | None = None
        # How it has ended: by a close frame of ours, or by a loss.
        self._has_closed = self._is_lost = False
        # Whether the server has taken our close frame, or nobody is there to be told.
        self._is_told = True

    async def run(self, executor: Executor, app: WSGIApplication, environ: WSGIEnvironment) -> None:
        """Have the app answer the handshake, on a thread, and serve the connection to its end.

        :param executor: the threads for that.
        :param app: the app.
        :param environ: the request.
        """
        try:
            # What announces the handshake: "websocket.connect".
            await self._receive()
            response = Response()
            accepted = self._accepted = self.loop.create_future()
            call = contextvars.copy_context().run
            work = executor.submit(call, response.make, app, environ)
            asyncio.wrap_future(work).add_done_callback(self._answered)
            timer = self.loop.call_later(PATIENCE, self._give_up, work)
            self.stopping.unanswered.add(self.stop_waiting)
            del work, environ, call
            try:
                serve = await accepted
            except asyncio.CancelledError:
                if not (accepted.cancelled() or accepted.exception()):
                    # The app has answered it in the same turn of the loop.
                    serve = accepted.result()
                    if serve is not None:
                        self._serve_orphan(serve)
                raise
            finally:
                timer.cancel()
                self.stopping.unanswered.discard(self.stop_waiting)
            if serve is None:
                await self._refuse(self._refusal or response)
                return
            self._scope = None
            self._is_told = False
            self.stopping.untold += 1
            del response, timer
            # Cancelled when the server's time for a graceful stop is over, which is no error of the
            # app's; some servers would log it as one.
            with contextlib.suppress(asyncio.CancelledError):
                await serve()
        finally:
            self._note_told()
            # The environ, a circle, lives until garbage is collected; Granian keeps the socket of a
            # refused handshake open for as long as somebody has these.
            self._receive = self._send = fail_as_lost

    def _note_told(self) -> None:
        if not self._is_told:
            self._is_told = True
            self.stopping.untold -= 1

    def _give_up(self, work: Future[None]) -> None:
        """Refuse a handshake that no thread has come to."""
        if self._scope is not None and work.cancel():
            logger.warning(
                "The WebSocket handshake for %r was refused with 503: it has waited %d s for a "
                "thread, and all of them are busy. ASGI(app, threads=...) says how many there are.",
                self._scope["path"],
                PATIENCE,
            )
            self._answer_by_itself()

    def stop_waiting(self) -> None:
        """Refuse the handshake, which the app has not answered: the server stops now."""
        self._answer_by_itself()

    async def turn_away(self) -> None:
        """Refuse the handshake: the server is stopping."""
        await self._receive()
        await self._refuse(unavailable())

    def _answer_by_itself(self) -> None:
        # The app's own may be half made, on its thread.
        self._refusal = unavailable()
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(None)

    def _answered(self, work: asyncio.Future[None]) -> None:
        accepted = self._accepted
        error = None if work.cancelled() else work.exception()
        if accepted is None or accepted.done():
            if error is not None:
                # The client has its answer.
                logger.error("An error after a WebSocket handshake", exc_info=error)
        elif error is not None:
            # The server logs it, and answers 500.
            accepted.set_exception(error)
        else:
            accepted.set_result(None)

    async def _refuse(self, response: Response) -> None:
        scope, self._scope = self._scope, None
        assert scope is not None
        status = int(response.status.split(" ", 1)[0])
        if DENIAL in (scope.get("extensions") or ()):
            await self._send(
                {
                    "type": f"{DENIAL}.start",
                    "status": status,
                    "headers": encode_headers(response.headers),
                }
            )
            await self._send({"type": f"{DENIAL}.body", "body": b"".join(response.body)})
            return
        if status != FORBIDDEN:
            logger.warning(
                "The app answered the handshake for %r with %d, and the client got 403: its server "
                "cannot send another response (ASGI's extension %s).",
                scope["path"],
                status,
                DENIAL,
            )
        await self._send({"type": "websocket.close"})

    # For flask-ws

    def begin(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the server's task await ``serve()``: the app has accepted the handshake."""
        self.loop.call_soon_threadsafe(self._accept, serve)

    def _accept(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(serve)
        else:
            self._serve_orphan(serve)

    def _serve_orphan(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # The server has given up on the handshake: this finds that the client has gone.
        task = self.loop.create_task(serve())
        _orphans.add(task)
        task.add_done_callback(_orphans.discard)

    async def accept(self, subprotocol: str | None, headers: Headers) -> None:
        """Answer the handshake."""
        await self._send(
            {
                "type": "websocket.accept",
                "subprotocol": subprotocol,
                "headers": encode_headers(headers),
            }
        )

    async def receive(self) -> str | bytes:
        """Receive the next message."""
        event = await self._receive()
        if event["type"] == "websocket.receive":
            text: str | None = event.get("text")
            if text is not None:
                return text
            data: bytes = event["bytes"]
            return data
        code, reason = event.get("code"), event.get("reason")
        self._is_lost = code == ABNORMAL
        if code is None or (code == NO_STATUS and reason is None and not self._has_closed):
            # With a close frame there would be a reason, an empty one at least: so Uvicorn tells of
            # a connection that was lost.
            code = ABNORMAL
        raise ConnectionClosed(code, reason or "")

    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message."""
        # Not a coroutine around the server's own: this is called for each message.
        key = "text" if isinstance(message, str) else "bytes"
        return self._send({"type": "websocket.send", key: message})

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame."""
        # Where it is lost, Gunicorn would wait for an answer that cannot come.
        if not (self._is_lost or self._has_closed):
            self._has_closed = True
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
            self._note_told()


#: What serves connections whose handshake the server has given up.
_orphans: set[asyncio.Task[None]] = set()


async def fail_as_lost(_event: object = None) -> NoReturn:
    """Stand in for the server's ``receive`` and ``send``, once its task has ended."""
    raise ConnectionResetError("the server has ended the connection")


def encode_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI has them."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers
        if name.lower() not in HOP_BY_HOP
    ]
