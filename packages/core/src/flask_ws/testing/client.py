"""The client's end of a connection to an app in memory, in a test."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, overload

import flask
from werkzeug.test import TestResponse

from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint
from flask_ws.connection.transport import PlainTransport
from flask_ws.exceptions import ConnectionClosed
from flask_ws.label import Label
from flask_ws.protocol.deflate import Deflate, parse_agreed
from flask_ws.protocol.frames import BytesLike
from flask_ws.protocol.protocol import Protocol
from flask_ws.wording import describe_close

from .memory import Call, threads
from .transcript import Transcript

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["ClientWebSocket", "raise_with_own_context"]


class ClientWebSocket(Endpoint):
    """The client's end of a connection that :func:`connect` opened.

    ``for message in ws`` receives messages until the connection is closed.
    """

    def __init__(
        self, call: Call, response: TestResponse, app: WSGIApplication, timeout: float
    ) -> None:
        agreed = parse_agreed(response.headers.get("Sec-WebSocket-Extensions", ""))
        deflate = None if agreed is None else Deflate(agreed, client=True, max_size=None)
        transport = PatientTransport(call.sock, timeout)
        connection = Connection(
            transport,
            Protocol(client=True, deflate=deflate),
            concurrency=threads,
            close_timeout=timeout,
            max_queue=16,
            label=Label("WebSocket client"),
        )
        super().__init__(connection, provider=getattr(app, "json", flask.json))
        #: The answer to the handshake, of status 101.
        self.response = response
        #: The subprotocol that was agreed on, or ``None``.
        self.subprotocol: str | None = response.headers.get("Sec-WebSocket-Protocol")
        self._patient = transport
        self._call = call
        self._timeout = timeout
        # Whether the transcript has its end; whether the app has returned.
        self._ended = self._finished = False
        self._transcript = Transcript(response.request.path)
        connection.begin(b"", call.early or b"")

    @overload
    def receive(self, timeout: None = None) -> str | bytes: ...

    @overload
    def receive(self, timeout: float | None) -> str | bytes | None: ...

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Receive the next message.

        :param timeout: seconds to wait for it; 0 takes what is there.
        :return: ``str`` for a text message, ``bytes`` for a binary one, ``None`` when the time
            is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises TimeoutError: no ``timeout`` was given, and no message came within that of
            :func:`connect`.
        """
        patience = self._timeout if timeout is None else timeout
        try:
            message = super().receive(patience)
        except ConnectionClosed as closed:
            self._note_end(closed.code, closed.reason)
            raise
        if message is None:
            self._transcript.add("received", f"nothing within {patience:g} s")
        else:
            self._transcript.add_message("received", message)
        if message is None and timeout is None:
            raise TimeoutError(
                f"The app sent no message within {self._timeout} s{self._call.whereabouts()}"
            )
        return message

    def send(self, data: str | BytesLike) -> None:
        """Send a message.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TimeoutError: the app does not read.
        """
        try:
            super().send(data)
        except ConnectionClosed as closed:
            self._note_end(closed.code, closed.reason)
            if self._patient.stalled:
                raise TimeoutError(
                    f"The app read nothing within {self._timeout} s{self._call.whereabouts()}"
                ) from None
            raise
        self._transcript.add_message("sent", data)

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive messages until the connection is closed, each within the timeout."""
        try:
            while True:
                yield self.receive()
        except ConnectionClosed:
            return

    def advance(self, seconds: float, *, silent: bool = False) -> None:
        """Have time pass for the connection, without waiting.

        The app's end does at once what would be due: it sends pings (``SOCK_PING_INTERVAL``), and
        gives up a peer that does not answer them (``SOCK_PING_TIMEOUT``), or takes too long for a
        message (``SOCK_MESSAGE_TIMEOUT``). From the first call on, this connection's time is the
        test's. A handler's own timeouts, as in ``ws.receive(timeout=1)``, are not affected.

        :param seconds: how much time.
        :param silent: whether to leave pings without an answer, as a client that is gone does.
        :raises ValueError: ``seconds`` is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"advance() takes seconds to pass, not {seconds!r}.")
        self._transcript.add("time", f"{seconds:g} s passed" + ", silent" * silent)
        self._call.advance(seconds, None if silent else self._connection.service)

    def drop(self) -> None:
        """Lose the connection, without a close frame: the app sees 1006."""
        self._transcript.add("dropped")
        self._connection.lose("the test dropped it")

    def _finish(self) -> BaseException | None:
        """Close the connection, and wait for the app to return.

        :return: what the handler raised, or a :exc:`TimeoutError` if it did not end.
        """
        deadline = time.monotonic() + self._timeout
        try:
            # Answers a close frame that came, also if the test has not received it.
            self._connection.service()
            self.close()
        finally:
            self._connection.release()
            ended = self._call.end(deadline)
        if self._call.error is None and not ended:
            return TimeoutError(
                "The handler has not returned, although its connection has been closed for "
                f"{self._timeout} s{self._call.whereabouts()}"
            )
        return self._call.error

    def __enter__(self) -> ClientWebSocket:  # noqa: PYI034
        """Return itself: the connection is open already."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection, and raise what its handler raised."""
        if self._finished:
            return
        self._finished = True
        error = self._finish()
        self._note_end(self.close_code or 0, self.close_reason)
        if error is not None:
            self._transcript.add("raised", f"{type(error).__name__}: {error}")
        if error is None:
            return
        if exc is not None and not isinstance(exc, Exception):
            # An interrupt, or an outcome such as a skip: it stays, with the other as context.
            _append(exc, error)
            return
        if exc is not None:
            _append(error, exc)
        raise_with_own_context(error)

    def _note_end(self, code: int, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._transcript.add("closed", describe_close(code, reason))

    def __repr__(self) -> str:
        state = "open" if self.connected else f"closed {self.close_code or ''}".strip()
        return f"<{type(self).__name__} {self.response.request.path} {state}>"


class PatientTransport(PlainTransport):
    """A socket on which no send waits for ever.

    :param sock: the socket.
    :param timeout: seconds that the peer may take to read anything.
    """

    def __init__(self, sock: Any, timeout: float) -> None:
        super().__init__(sock, threads, sock.close)
        self._timeout = timeout
        #: Whether a send failed because the peer did not read.
        self.stalled = False

    def _send_some(self, data: memoryview) -> int:
        sent = self.try_send(data)
        if not sent and not threads.wait_writable(self.fd, self._timeout):
            self.stalled = True
            raise TimeoutError(errno.ETIMEDOUT, "the peer does not read")
        return sent


def raise_with_own_context(error: BaseException) -> NoReturn:
    """Raise an exception that has a context already, which Python replaces with the current one."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


def _append(error: BaseException, earlier: BaseException) -> None:
    """Make ``earlier`` the first exception in the traceback of ``error``."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if error is not earlier:
        error.__context__ = earlier
