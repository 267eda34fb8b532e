"""The answer to a handshake that has reached its route: a 101, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotImplemented as NotImplementedResponse

from ..channels.channels import Channels
from ..http.admission import check_room
from ..http.clients import find_key
from ..http.gateway import GATEWAY, Gateway, switching
from ..http.handshake import check, refuse
from ..http.identity import find_identity
from ..http.upgrade import Upgrade
from ..identity.rules import Rules
from ..live.view import spoken_by
from ..options import Options
from ..plugin.manager import hint
from ..views.advice import is_async, warn_of_handler
from .advice import warn_of_worker

__all__ = ["answer"]


def answer(
    handler: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
    channels: Channels,
    rules: Rules,
) -> flask.Response:
    """Answer the current request's handshake: with a response of 101, or by refusing it."""
    request: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    handshake = check(request, options, spoken_by(handler))
    # There is none at the first request of an app that was never initialised.
    gateway: Gateway = request.environ.get(GATEWAY) or Gateway(request.environ)
    request.environ[GATEWAY] = gateway
    server_socket = gateway.server_socket
    if server_socket is None:
        refuse(request, NotImplementedResponse(gateway.no_socket or hint(request.environ)))
    needs_thread = not is_async(handler) and (
        not isinstance(handler, type)
        or hasattr(server_socket.sock, "_sslobj")
        or options.slows_clients
    )
    if gateway.no_room is not None and options.detach and needs_thread:
        refuse(request, gateway.no_room)
    warn_of_handler(handler)
    detachable = server_socket.detach or server_socket.detachable
    warn_of_worker(request.environ, server_socket, detached=detachable and options.detach)
    try:
        check_room(server_socket, options)
    except HTTPException as error:
        refuse(request, error)
    limited = options.max_per_client is not None or options.rate is not None
    key = find_key(options) if limited else None
    try:
        # Last of all: a ticket is used up by it.
        identity = find_identity(rules, channels)
    except HTTPException as error:
        refuse(request, error)
    gateway.upgrade = Upgrade(
        handler, args, kwargs, handshake, options, channels, server_socket, key, identity, rules
    )
    app = flask.current_app
    return switching(app.response_class(status=101, headers=handshake.headers))
