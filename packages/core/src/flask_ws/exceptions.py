"""The exceptions of flask-ws."""

from __future__ import annotations

from .wording import describe_close

__all__ = ["BrokerError", "ConfigurationError", "ConnectionClosed", "FlaskWSError", "NoSocket"]


class FlaskWSError(Exception):
    """The parent of every exception of flask-ws."""


class ConfigurationError(FlaskWSError, ValueError):
    """An option has a name that flask-ws does not know, or a value that it cannot use."""


class BrokerError(FlaskWSError):
    """The broker, and through it the other processes, cannot be reached now."""


class Reason(str):
    """The text of a close frame, which equals the close code as well.

    Where simple_websocket's exception has a text in ``message``, its ``reason`` is the code:
    code that compares that with a number goes on working.
    """

    __slots__ = ("_code",)
    __hash__ = str.__hash__

    _code: int

    def __new__(cls, text: str, code: int) -> Reason:  # noqa: PYI034
        reason = super().__new__(cls, text)
        reason._code = code
        return reason

    def __getnewargs__(self) -> tuple[str, int]:  # type: ignore[override]
        return str(self), self._code

    def __int__(self) -> int:
        return self._code

    def __eq__(self, other: object) -> bool:
        return self._code == other if isinstance(other, int) else str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


class ConnectionClosed(FlaskWSError):
    """The WebSocket connection is closed: nothing more can be sent or received.

    It is the only exception that a closed or lost connection raises, whatever error the operating
    system, TLS or the server's library reported.

    :param code: the close code (RFC 6455 section 7.4). A close frame's own code; 1005 where the
        frame had none; 1006 where the connection was lost without a close frame.
    :param reason: the close frame's text, or what flask-ws knows of the cause; may be empty.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        #: The close code.
        self.code = code
        #: The reason that came with it: a text, which equals the code, too.
        self.reason: str = Reason(reason, code)

    @property
    def message(self) -> str:
        """The reason, by the name that it has in simple_websocket."""
        return str(self.reason)

    def __str__(self) -> str:
        return f"The WebSocket is closed: {describe_close(self.code, self.reason)}"


class NoSocket(FlaskWSError):
    """A plugin knows a request's server, but the server gives no access to the socket.

    For plugins to raise. The handshake is refused with status 501. The client and the log get the
    message, which should say what helps, such as an option of the server.
    """
