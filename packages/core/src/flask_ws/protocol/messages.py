"""What takes the place of the protocol where the server frames messages itself, as under ASGI."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias
from typing import Protocol as Interface

from .control import MAX_CONTROL_PAYLOAD, write_close
from .events import Close
from .frames import BytesLike, encode
from .shared import SharedMessage

if TYPE_CHECKING:
    import asyncio

__all__ = ["MessageProtocol", "Outgoing", "ServerMessages", "size_of"]

#: What a connection gives its server: a message, or the end.
Outgoing: TypeAlias = "str | bytes | Close"


class ServerMessages(Interface):
    """The connection of a server that frames messages itself: :attr:`ServerSocket.messages`.

    All but :meth:`begin` is called on :attr:`loop`, by one task at a time for each method.
    """

    #: The asyncio loop that the server runs on.
    loop: asyncio.AbstractEventLoop

    def begin(self, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the server's task for the connection await ``serve()``, which is its whole life.

        Called once, by any thread, when the app has accepted the handshake.

        :raises RuntimeError: the loop has ended.
        """

    async def accept(self, subprotocol: str | None, headers: list[tuple[str, str]]) -> None:
        """Answer the handshake.

        :param subprotocol: the subprotocol that was agreed on.
        :param headers: further headers of the answer.
        :raises OSError: the client has gone; and so for :meth:`receive`, :meth:`send` and
            :meth:`close`. A :exc:`RuntimeError` is taken for the same; of what else is raised the
            log tells.
        """

    async def receive(self) -> str | bytes:
        """Receive the next message. While this is not called, the peer should have to wait.

        :raises ConnectionClosed: the connection has ended, with the peer's close code or 1006.
        """

    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message; wait while the peer is slow to read. Usually it is an ``async def``."""

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame. :meth:`receive` tells when the peer has answered it.

        Also called when that has told of the peer's close frame, while the handler still runs: a
        server that has not answered it yet does so now; one that has, or was called before, does
        nothing. What it raises then is of no account.
        """


def size_of(message: Outgoing) -> int:
    """Return the size of a message in bytes; of text, in UTF-8."""
    if isinstance(message, bytes):
        return len(message)
    if isinstance(message, str):
        return len(message) if message.isascii() else len(message.encode())
    return 0


class MessageProtocol:
    """One endpoint of a connection whose messages are framed elsewhere.

    :param max_message_size: the largest message accepted, in bytes; ``None`` for no limit.
    """

    __slots__ = ("max_size", "meter")

    #: There are no parts of messages, and nothing is compressed here.
    partial = None
    drained = True
    deflates = False
    held = 0

    def __init__(self, max_message_size: int | None = None) -> None:
        #: The largest message accepted, in bytes.
        self.max_size = sys.maxsize if max_message_size is None else max_message_size
        self.meter: Callable[[], bool] | None = None

    def next_event(self, _data: bytes = b"") -> None:
        """Return nothing: there is no more than what was read."""

    def give_up(self) -> None:
        """Do nothing: nothing is held."""

    def send_message(self, data: str | BytesLike) -> list[str | bytes]:
        """Return a message as it is to be sent.

        :raises TypeError: ``data`` is neither text nor bytes-like.
        :raises UnicodeEncodeError: it is text that cannot be encoded.
        """
        return [self.take_message(data)[0]]

    def take_message(self, data: str | BytesLike) -> tuple[str | bytes, int]:
        """Return a message as it is to be sent, and its size in bytes; of text, in UTF-8.

        :raises TypeError: ``data`` is neither text nor bytes-like.
        :raises UnicodeEncodeError: it is text that cannot be encoded.
        """
        if isinstance(data, bytes) or (isinstance(data, str) and data.isascii()):
            return data, len(data)
        _, payload = encode(data)
        # Text that can be encoded; or a copy of what may change.
        return (data if isinstance(data, str) else bytes(payload)), len(payload)

    def send_shared(self, message: SharedMessage) -> str | bytes:
        """Return a message that other connections get as well."""
        return message.data

    def send_ping(self, payload: bytes = b"") -> list[str | bytes]:
        """Return nothing: a server that frames messages sends its own pings, at its own time.

        :raises ValueError: ``payload`` has more than 125 bytes.
        """
        if len(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(f"A ping carries up to 125 bytes, not {len(payload)}.")
        return []

    def send_close(self, code: int, reason: str = "") -> list[Close]:
        """Return the end, with a reason that a close frame has room for."""
        return [Close(code, write_close(code, reason)[2:].decode())]
