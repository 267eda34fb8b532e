"""Who a client is, and whether it may stay: what the app says, asked in the request's context."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import flask
from werkzeug.exceptions import HTTPException, ServiceUnavailable, Unauthorized

from ..channels.channels import Channels
from ..connection.connection import Connection
from ..exceptions import BrokerError, ConfigurationError, ConnectionClosed
from ..identity.identities import check_identity
from ..identity.recheck import Recheck, rechecks_for
from ..identity.rules import Rules
from ..identity.tickets import BadTicket, Tickets
from ..live.view import direct_to
from ..views.context import Scope
from .refusal import Refusal
from .secrets import TICKET
from .upgrade import Upgrade

if TYPE_CHECKING:
    from ..views.async_websocket import AsyncWebSocket
    from ..views.websocket import WebSocket

    AnyWebSocket = WebSocket | AsyncWebSocket

__all__ = ["enter", "find_identity", "make_recheck", "tickets_of"]


class WrongTicket(Refusal, Unauthorized):
    """401: the ticket is not valid."""

    description = "The ticket is not valid, or not any more. Ask for another one."


class NobodyKnows(Refusal, ServiceUnavailable):
    """503: nobody can tell whether the ticket was used before."""

    description = "The ticket cannot be checked now. Try again later."


def tickets_of(app: flask.Flask) -> Tickets:
    """Return what makes and takes an app's tickets.

    :raises ConfigurationError: the app has no secret key.
    """
    key = app.secret_key
    if not key:
        raise ConfigurationError(
            'Tickets are signed: set app.config["SECRET_KEY"], the same one in all processes.'
        )
    older: Sequence[str | bytes] = app.config.get("SECRET_KEY_FALLBACKS") or ()
    return Tickets([*older, key])


def find_identity(rules: Rules, channels: Channels) -> str | None:
    """Find out who the client of the current handshake is: by its ticket, or by asking the app.

    :raises HTTPException: it may not come in.
    :raises TypeError: the app has returned something else than text.
    """
    environ = flask.request.environ
    ticket = environ.get(TICKET)
    if ticket is not None:
        alone = not environ.get("wsgi.multiprocess")
        use_once = functools.partial(channels.use_once, alone=alone)
        try:
            return tickets_of(flask.current_app).take(ticket, use_once)
        except BadTicket as error:
            raise WrongTicket(str(error)) from None
        except BrokerError as error:
            raise NobodyKnows(f"Whether its ticket was used before: {error}") from None
    if rules.identify is None:
        return None
    identity = _call(rules.identify)
    if identity is None:
        return None
    check_identity(identity)
    return identity if isinstance(identity, str) else None


def enter(
    upgrade: Upgrade, connection: Connection, ws: WebSocket, report: Callable[[Exception], None]
) -> None:
    """Let a connection be reached by its user's identity, and end when the login does.

    :param report: reports an exception of the app's function that is asked.
    """
    if upgrade.identity is not None:
        # Set before, so that its end is never missed.
        connection.when_released = upgrade.channels.forget
        with contextlib.suppress(ConnectionClosed):
            wrapped = direct_to(upgrade.target, connection)
            upgrade.channels.enter(connection, upgrade.identity, wrapped)
        ws.expires_at = getattr(upgrade.identity, "expires_at", None)
    ws._recheck = make_recheck(upgrade.rules, ws, connection, report)
    if ws._recheck is not None:
        rechecks_for(upgrade.server_socket.concurrency).add(ws._recheck)


def make_recheck(
    rules: Rules, ws: AnyWebSocket, connection: Any, report: Callable[[Exception], None]
) -> Recheck | None:
    """Prepare to ask about a connection; must be called in its request's context.

    :param report: reports an exception of the app's function.
    :return: ``None`` where there is nothing to ask.
    """
    if rules.recheck is None:
        return None
    return Recheck(connection, Question(rules.recheck, ws, report), rules.seconds)


class Question:
    """Whether a connection may stay: asks the app, in a request context with a session read anew.

    :param function: the app's.
    :param ws: what it is given; not kept alive by this.
    :param report: reports an exception of the function.
    """

    __slots__ = ("_function", "_report", "_scope", "_ws")

    def __init__(
        self,
        function: Callable[[Any], object],
        ws: AnyWebSocket,
        report: Callable[[Exception], None],
    ) -> None:
        self._function = function
        self._ws = weakref.ref(ws)
        self._report = report
        self._scope = Scope(keeps_session=False)

    def __call__(self) -> bool:
        """Ask; where the app does not know, because of an error, the connection stays for now."""
        try:
            return self._scope.enter().run(self._ask)
        finally:
            self._scope.leave()

    def _ask(self) -> bool:
        ws = self._ws()
        error: Exception | None = None
        if ws is None:
            return True
        try:
            return bool(_call(self._function, ws))
        except HTTPException as raised:
            # As by abort(401).
            error = raised
            return False
        except Exception as raised:
            error = raised
            self._report(raised)
            return True
        finally:
            self._scope.tear_down(error)


def _call(function: Callable[..., object], *args: object) -> object:
    """Call a function of the app, which may be an async one as a view may be."""
    app: Any = flask.current_app
    return app.ensure_sync(function)(*args)
