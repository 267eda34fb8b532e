"""What a server plugin implements, and what it returns."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from ..concurrency import Concurrency, threads
from ..protocol.messages import ServerMessages
from .brokers import Broker

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from typing_extensions import Self

__all__ = ["ServerMessages", "ServerSocket", "hookimpl"]

PROJECT = "flask_ws"

hookspec = pluggy.HookspecMarker(PROJECT)
#: Marks a function of a plugin as the implementation of a hook.
hookimpl = pluggy.HookimplMarker(PROJECT)


def _nothing() -> bytes:
    return b""


def _never() -> bool:
    return False


@dataclass(slots=True)
class ServerSocket:
    """A server's socket for one request, and what flask-ws must know of it."""

    #: The socket of the connection, as the server holds it: plain or TLS, native or green. If
    #: the server has only a file descriptor, :func:`borrow_socket` makes a socket of it. There is
    #: none where the server has :attr:`messages`: see :meth:`of_messages`.
    sock: socket.socket
    #: The bytes that the server has read past the request head, or a function that takes them
    #: from the server's buffer. A function is called only when the handshake is accepted, so
    #: that a refused request leaves the server's buffer as it was; and before any other use of the
    #: socket, perhaps in another thread, while the server waits for the response.
    read_ahead: bytes | Callable[[], bytes] = _nothing
    #: Whether a handler should leave the server's worker, because the server has few of them.
    detach: bool = False
    #: Whether a connection can outlive its request here, on a socket and threads that flask-ws
    #: owns. If :attr:`detach` is true, it can.
    detachable: bool = False
    #: Tells whether the server is stopping. It is called often, from another thread; return the
    #: same object, or an equal one, for all connections of a server if you can.
    is_stopping: Callable[[], bool] = _never
    #: The primitives that go with the socket.
    concurrency: Concurrency = threads
    #: Seconds that a stopping process waits for a handler that is still running, on a thread that
    #: the server itself does not wait for.
    stop_timeout: float = 2.0
    #: Called when the file descriptor of :attr:`sock` has changed, in the thread that replaced its
    #: socket. That happens on Windows only, and matters to a server whose event loop knows its
    #: connections by descriptor: when this returns, the loop must not wait for the old one.
    on_new_fileno: Callable[[], object] | None = None
    #: Tells whether others answer where a server that stops did, so that its clients can come back:
    #: ``True`` if they do, or are none of this server's business; ``None`` if they do not yet;
    #: ``False`` if they will only after the end of this process. Asked now and then while a
    #: stopping process has goodbyes to spread (``SOCK_DRAIN``), from another thread. It must not
    #: wait. The same object for all connections, as for :attr:`is_stopping`.
    has_successor: Callable[[], bool | None] | None = None
    #: The connection as messages, of a server that runs on asyncio and frames them itself.
    messages: ServerMessages | None = None

    @classmethod
    def of_messages(
        cls,
        messages: ServerMessages,
        *,
        is_stopping: Callable[[], bool] = _never,
        stop_timeout: float = 2.0,
    ) -> Self:
        """Make what a plugin returns whose server frames messages itself, and keeps its socket.

        Handlers run on threads of flask-ws's own, or on the server's loop.

        :param messages: the server's side of the connection.
        :param is_stopping: as the field of that name; and
        :param stop_timeout: as well.
        """
        nothing: Any = None
        return cls(
            nothing,
            detach=True,
            is_stopping=is_stopping,
            stop_timeout=stop_timeout,
            messages=messages,
        )

    def take_read_ahead(self) -> bytes:
        """Take the bytes that the server has read past the request head; once."""
        early = self.read_ahead() if callable(self.read_ahead) else self.read_ahead
        # Releases the function, which keeps the server's reader alive.
        self.read_ahead = b""
        return early


@hookspec(firstresult=True)
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Get the raw socket of a request from its environ.

    Called once for each WebSocket handshake. A plugin claims only its own server's requests: for
    the environ of another server it returns ``None``, and changes nothing in it.

    :param environ: the WSGI environ (PEP 3333) as the server made it.
    :return: the server's socket, or ``None`` if the request is not from this plugin's server.
    :raises NoSocket: the request is this server's, but has no usable socket; the message says why.
    """


@hookspec(firstresult=True)
def flask_ws_open_broker(url: str) -> Broker | None:
    """Make the broker for ``SOCK_BROKER_URL``.

    Called when an app is initialised, to check whether the URL can be used, and again in each
    process that publishes or subscribes. A plugin claims the schemes that it knows, and returns
    ``None`` for others; nothing may be connected before :meth:`flask_ws.Broker.start`.

    :param url: the URL, with a scheme such as ``redis`` and all settings of the broker.
    :return: a broker that has not been started, or ``None`` if the URL is not this plugin's.
    :raises ConfigurationError: the scheme is this plugin's, and the rest of the URL is wrong.
    """
