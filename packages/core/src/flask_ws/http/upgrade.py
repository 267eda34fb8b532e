"""A handshake that was accepted, on its way from the view to the connection."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..channels.channels import Channels
from ..identity.rules import Rules
from ..options import Options
from ..plugin.hookspecs import ServerSocket
from ..views.view import AsyncWebSocketView, WebSocketView
from .handshake import Handshake

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["ON_EXCEPTION", "ON_READY", "OwnThread", "Upgrade"]


#: The environ key of a function that gets the exceptions of the request's handler in place of
#: the log: tests raise them.
ON_EXCEPTION = "flask_ws.on_exception"
#: That of a function that gets the connection when its handler first waits for the peer, sends, or
#: ends, or when ``on_open`` has returned: tests wait for it.
ON_READY = "flask_ws.on_ready"


@dataclass(slots=True)
class Upgrade:
    """A handshake that was accepted, and what is to run on its connection."""

    #: A handler, or an event view's class.
    target: type[WebSocketView | AsyncWebSocketView] | Callable[..., object]
    #: Positional arguments that decorators pass.
    args: tuple[Any, ...]
    #: The URL's variables.
    kwargs: dict[str, Any]
    handshake: Handshake
    options: Options
    channels: Channels
    server_socket: ServerSocket
    #: What tells its client from others; ``None`` where nothing is limited.
    client_key: str | None = None
    #: Who the client is; ``None`` for nobody.
    identity: str | None = None
    #: Whether it may stay.
    rules: Rules = field(default_factory=Rules)


class OwnThread(typing.Protocol):
    """A thread of ours that a request runs on, while a worker of the server's waits for it."""

    #: Whether the server's worker is free for other requests.
    released: bool

    def copy_environ(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        """Copy the request's environ for a connection that outlives it."""

    def release(self, headers: list[tuple[str, str]], drain: Callable[[], None]) -> None:
        """Free the server's worker for other requests."""
