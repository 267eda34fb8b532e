"""What an app declares about its users, and does with all connections of one."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from typing import Any, TypeVar, overload

import flask

from ..channels.results import Published
from ..connection.endpoint import check_close
from ..http.identity import tickets_of
from ..identity.identities import DISMISSED, check_identity
from ..identity.rules import Rules
from ..protocol.frames import BytesLike
from .publishing import Excluded, connections_of
from .state import AppState

__all__ = ["Users"]

Identify = TypeVar("Identify", bound=Callable[[], Any])
Recheck = TypeVar("Recheck", bound=Callable[[Any], Any])


class Users:
    """The part of :class:`Sock` about users."""

    def __init__(self) -> None:
        self._rules = Rules()

    def identify(self, function: Identify) -> Identify:
        """Declare who a client is; the function is returned unchanged.

        ::

            @sock.identify
            def who():
                return session.get("user_id")

        It is called in the request context of each handshake, without arguments, and returns
        text, or ``None`` for nobody: that is :attr:`WebSocket.identity`. By :class:`Identity`
        it may also say when the login expires. ``abort(401)`` in it refuses the handshake. A
        client with a ticket (:meth:`ticket`) is whom the ticket says, and it is not called.

        :param function: may be an async one, where Flask can call these.
        :raises TypeError: it is no function.
        """
        check_function(function, "identify")
        self._rules.identify = function
        return function

    @overload
    def recheck(self, function: Recheck, *, seconds: float = 60.0) -> Recheck: ...

    @overload
    def recheck(
        self, function: None = None, *, seconds: float = 60.0
    ) -> Callable[[Recheck], Recheck]: ...

    def recheck(self, function: Recheck | None = None, *, seconds: float = 60.0) -> Any:
        """Declare whether a client may stay: asked now and then, for handlers of all kinds.

        ::

            @sock.recheck(seconds=60)
            def may_stay(ws):
                return current_user.is_authenticated

        It is called with the ``ws``, in a request context like that of the handshake, but for
        ``g``, which is empty, and the session, which is read anew. If it returns false, or raises
        an HTTP exception as by ``abort(401)``, the connection is closed with 4001; if it raises
        another one, that is reported as Flask reports a view's, and the connection stays for now.

        One thread asks for all connections of a process, one after the other. The first time is
        within two seconds; later ones differ a little in time.

        :param function: may be an async one, where Flask can call these.
        :param seconds: from one time to the next, for each connection.
        :raises TypeError: it is no function.
        :raises ValueError: ``seconds`` is no such number.
        """
        check_seconds(seconds, "seconds")

        def declare(function: Recheck) -> Recheck:
            check_function(function, "recheck")
            self._rules.recheck, self._rules.seconds = function, seconds
            return function

        return declare if function is None else declare(function)

    def send_to(
        self,
        identity: str,
        data: str | BytesLike,
        *,
        exclude: Excluded = None,
    ) -> Published:
        """Send a message to all connections of a user, in this process and in the others.

        It is a publication on a channel to which each connection with an identity is subscribed:
        all that :meth:`publish` promises holds.

        :param identity: the user's identity (:meth:`identify`).
        :param data: as for :meth:`publish`.
        :param exclude: as for :meth:`publish`.
        :return: an object that is true if the broker has the message.
        :raises TypeError: ``data`` is no message, or ``identity`` no ``str``.
        :raises ValueError: the identity cannot be one.
        """
        return _send_to(identity, data, exclude, is_json=False)

    def send_json_to(
        self,
        identity: str,
        data: Any,
        *,
        exclude: Excluded = None,
        **kwargs: Any,
    ) -> Published:
        """Send ``data`` as JSON, in a text message, to all connections of a user.

        :param identity: the user's identity (:meth:`identify`).
        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param exclude: as for :meth:`publish`.
        :param kwargs: passed on to the provider's ``dumps``.
        :return: as :meth:`send_to`.
        """
        return _send_to(identity, flask.json.dumps(data, **kwargs), exclude, is_json=True)

    def disconnect(self, identity: str, code: int = DISMISSED, reason: str = "") -> bool:
        """Close all connections of a user, in this process and in the others.

        What was sent to the user before goes out first. Nobody waits for the clients; one that
        does not answer the close frame is dropped after ``SOCK_CLOSE_TIMEOUT``. To keep the user
        out, end the login first: who is in the middle of a handshake is found by
        :meth:`recheck`.

        :param identity: the user's identity (:meth:`identify`).
        :param code: the close code.
        :param reason: a text to go with it, of at most 123 bytes of UTF-8.
        :return: ``False`` if the broker is away: then those in other processes stay open.
        :raises TypeError: ``identity`` or ``reason`` is no ``str``.
        :raises ValueError: the code cannot be sent, or the identity cannot be one.
        """
        check_identity(identity)
        check_close(code, reason)
        return bool(AppState.of(flask.current_app).channels.disconnect(identity, code, reason))

    def connections(self, identity: str) -> int:
        """Count the open connections of a user, in all processes.

        The other processes are asked, and answer within a second; in an async function,
        ``asyncio.to_thread()`` waits for them.

        :param identity: the user's identity (:meth:`identify`).
        :raises BrokerError: the broker is unreachable.
        :raises TypeError: ``identity`` is no ``str``.
        :raises ValueError: it cannot be one.
        """
        check_identity(identity)
        return AppState.of(flask.current_app).channels.count_connections(identity)

    def presence(self, channel: str) -> dict[str, list[Any]]:
        """Return who is there: the members of a channel, in all processes.

        ::

            >>> sock.presence("room:42")
            {"7": [{"name": "Ada"}], "8": [{"name": "Bob"}, {"name": "Bob", "away": True}]}

        Each key is there once (:meth:`WebSocket.join`), with the infos of its connections; equal
        ones are there once. So ``len()`` is the number of people. The broker is asked; in an async
        function, ``asyncio.to_thread()`` waits for it.

        :param channel: the channel's name.
        :raises BrokerError: the broker is unreachable.
        :raises ValueError: the name cannot be one.
        """
        found: dict[str, list[Any]] = json.loads(
            AppState.of(flask.current_app).channels.attendance.read(channel)
        )
        return found

    def ticket(self, identity: str, ttl: float = 30.0) -> str:
        """Make a ticket that lets a client in once: for ``?ticket=...`` in the URL of a handshake.

        ::

            @app.post("/ticket")
            @login_required
            def ticket():
                return {"ticket": sock.ticket(current_user.get_id())}

        It is text that stands in a URL as it is, signed with the app's ``SECRET_KEY``. A
        handshake with one that is too old, was used before, or is signed with another key gets
        401; with the broker away, 503. Any route of the app takes it.

        :param identity: who the client is, :attr:`WebSocket.identity`.
        :param ttl: the seconds for which it can be used.
        :raises ConfigurationError: the app has no ``SECRET_KEY``.
        :raises TypeError: ``identity`` is no ``str``, or ``ttl`` no number.
        :raises ValueError: ``identity`` cannot be one, or ``ttl`` is no positive number.
        """
        check_identity(identity)
        check_seconds(ttl, "ttl")
        return tickets_of(flask.current_app).make(identity, ttl)


def _send_to(
    identity: str, data: str | BytesLike, exclude: Excluded, *, is_json: bool
) -> Published:
    check_identity(identity)
    channels = AppState.of(flask.current_app).channels
    return channels.send_to(identity, data, connections_of(exclude), is_json=is_json)


def check_function(function: object, name: str) -> None:
    """Check what is declared.

    :raises TypeError: it is no function.
    """
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"Sock.{name}() takes a function, not {function!r}.")


def check_seconds(seconds: object, name: str) -> None:
    """Check a number of seconds.

    :raises TypeError: it is no number.
    :raises ValueError: it is not positive, or not finite.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {seconds!r}.")
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{name} is a positive number of seconds, not {seconds!r}.")
