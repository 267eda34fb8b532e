"""What an app calls on a connection, at either end of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, overload
from typing import Protocol as Interface

from ..exceptions import ConnectionClosed
from ..protocol.close_codes import CLOSE_CODES, NORMAL_CLOSURE
from ..protocol.frames import BytesLike
from .connection import Connection

__all__ = [
    "Endpoint",
    "JSONProvider",
    "check_close",
    "connection_of",
    "read_json",
    "write_json",
]


#: The part of a message that is not JSON which an exception shows.
SHOWN_LENGTH = 80


class JSONProvider(Interface):
    """What reads and writes JSON: the app's provider, or the module :mod:`json`."""

    # Not functions: two of a provider's, for each connection, would take 128 bytes.
    @property
    def dumps(self) -> Callable[..., str]:
        """Write JSON."""

    @property
    def loads(self) -> Callable[..., Any]:
        """Read JSON."""


class Endpoint:
    """One end of a connection, as an app sees it: messages, and the end.

    ``for message in ws`` receives messages until the connection is closed.

    :param connection: the connection.
    :param provider: reads and writes JSON.
    """

    __slots__ = ("__weakref__", "_connection", "_provider")

    def __init__(
        self,
        connection: Connection,
        *,
        provider: JSONProvider = json,
    ) -> None:
        self._connection = connection
        self._provider = provider

    @property
    def connected(self) -> bool:
        """Whether messages can be sent: neither side has begun to close, as far as is known."""
        return self._connection.state.connected

    @property
    def close_code(self) -> int | None:
        """The close code (RFC 6455 section 7.4), or ``None`` while the connection is open.

        A close frame's own; 1005 where it had none, 1006 where the connection was lost.
        """
        return self._connection.state.close_code

    @property
    def close_reason(self) -> str:
        """The text that came with it."""
        return self._connection.state.close_reason

    # Messages

    def send(self, data: str | BytesLike) -> None:
        """Send a message (RFC 6455 section 5.6); any thread may.

        :param data: ``str`` is sent as text; ``bytes``, ``bytearray`` and ``memoryview`` as
            binary. Returns when the operating system has taken all of it.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: ``data`` is something else.
        """
        self._connection.sender.send(data)

    @overload
    def receive(self, timeout: None = None) -> str | bytes: ...

    @overload
    def receive(self, timeout: float | None) -> str | bytes | None: ...

    def receive(self, timeout: float | None = None) -> str | bytes | None:
        """Receive the next message; one thread at a time.

        :param timeout: seconds to wait for it; 0 takes what is there; ``None``, the default,
            waits for as long as the connection lives.
        :return: ``str`` for a text message, ``bytes`` for a binary one, ``None`` when the time
            is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises RuntimeError: another thread is in ``receive()`` already.
        """
        return self._connection.receiver.receive(timeout)

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive messages until the connection is closed, by either side and for any reason."""
        receive = self._connection.receiver.receive
        try:
            while True:
                yield receive()
        except ConnectionClosed:
            return

    def send_json(self, data: Any, **kwargs: Any) -> None:
        """Send ``data`` as JSON, in a text message.

        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param kwargs: passed on to the provider's ``dumps``.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises TypeError: the provider cannot write it.
        """
        self.send(write_json(self._provider, data, kwargs))

    def receive_json(self, timeout: float | None = None) -> Any:
        """Receive the next message, and read it as JSON by the app's JSON provider.

        :param timeout: as for :meth:`receive`.
        :return: the value, or ``None`` when the time is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises ValueError: the message is not JSON, or nested too deeply.
        """
        message = self.receive(timeout)
        return None if message is None else read_json(self._provider, message)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping (RFC 6455 section 5.5.2); any thread may.

        There is seldom a need for it: flask-ws does so by itself, see ``SOCK_PING_INTERVAL``.

        :param payload: up to 125 bytes, which come back in the pong.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        :raises ValueError: ``payload`` is too long.
        """
        self._connection.sender.send(b"", ping=payload)

    # The end

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection with a closing handshake (RFC 6455 section 7); any thread may.

        Waits up to ``close_timeout`` seconds for the peer's answer, and drops what it sends
        before that. Does nothing on a closed connection.

        :param code: the close code to send.
        :param reason: a text to go with it; cut to 123 bytes of UTF-8.
        :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
            encoded.
        :raises TypeError: ``reason`` is no text.
        """
        check_close(code, reason)
        self._connection.close(code, reason)


def write_json(provider: JSONProvider, data: Any, kwargs: dict[str, Any]) -> str:
    """Write a value as JSON.

    :raises TypeError: JSON has no such value, and the provider does not know how to write it.
    """
    try:
        return provider.dumps(data, **kwargs)
    except TypeError as error:
        advice = (
            "Await it, and send the result."
            if "coroutine" in str(error)
            else "Send dictionaries, lists, str, numbers, bool and None, or let the app's JSON "
            "provider write it (flask.Flask.json)."
        )
        raise TypeError(f"{error}. {advice}") from None


def read_json(provider: JSONProvider, message: str | bytes) -> Any:
    """Read a message as JSON.

    :raises ValueError: it is none, or is nested too deeply.
    """
    try:
        return provider.loads(message)
    except (ValueError, RecursionError) as error:
        # The latter for JSON that is nested too deeply.
        more = "..." if len(message) > SHOWN_LENGTH else ""
        raise ValueError(
            f"The message is not JSON: {message[:SHOWN_LENGTH]!r}{more} ({error}). Catch "
            "ValueError where a peer may send such."
        ) from None


def connection_of(ws: Any) -> Any:
    """Return the connection behind a ``ws`` of any kind, which an app is not shown."""
    return ws._connection


def check_close(code: int, reason: str) -> None:
    """Check the code and the reason of a close frame, before any lock is taken.

    :raises ValueError: ``code`` is not one that an endpoint may send, or ``reason`` cannot be
        encoded.
    :raises TypeError: ``reason`` is no text.
    """
    if code not in CLOSE_CODES:
        raise ValueError(
            f"{code!r} is not a close code to send: 1000 to 1003, 1007 to 1014 and 3000 to 4999 "
            "are."
        )
    if not isinstance(reason, str):
        raise TypeError(f"A reason is a text, not {reason!r}: close(code, reason).")
    reason.encode()
