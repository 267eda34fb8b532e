"""The object that a handler talks to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .connection import Connection

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["WebSocket"]


class WebSocket(Connection):
    """A client's WebSocket connection.

    A handler gets it as its first argument. ``for message in ws`` receives messages until the
    connection is closed.

    :param environ: the WSGI environ of the request that opened the connection.
    :param subprotocol: the subprotocol that was agreed on, or ``None``.
    :param dumps: writes JSON.
    :param loads: reads JSON.
    """

    def __init__(
        self,
        *args: Any,
        environ: WSGIEnvironment,
        subprotocol: str | None,
        dumps: Callable[..., str],
        loads: Callable[[str | bytes], Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        #: The WSGI environ of the request that opened the connection.
        self.environ = environ
        #: The subprotocol that was agreed on, or ``None``.
        self.subprotocol = subprotocol
        self._dumps = dumps
        self._loads = loads

    def send_json(self, data: Any, **kwargs: Any) -> None:
        """Send ``data`` as JSON, in a text message.

        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param kwargs: passed on to the provider's ``dumps``.
        :raises ConnectionClosed: the connection is closed, or was lost meanwhile.
        """
        self.send(self._dumps(data, **kwargs))

    def receive_json(self, timeout: float | None = None) -> Any:
        """Receive the next message, and read it as JSON by the app's JSON provider.

        :param timeout: as for :meth:`receive`.
        :return: the value, or ``None`` when the time is up.
        :raises ConnectionClosed: the connection is closed and every message has been received.
        :raises ValueError: the message is not JSON.
        """
        message = self.receive(timeout)
        return None if message is None else self._loads(message)

    def __repr__(self) -> str:
        path = self.environ.get("PATH_INFO", "")
        state = "open" if self.connected else f"closed {self.close_code or ''}".strip()
        return f"<{type(self).__name__} {path} {state}>"
