"""Presence, as a ``ws`` of either kind has it: joining channels, and watching their members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..connection.endpoint import connection_of
from ..presence.entries import make_entry, read_key
from .common import Common

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["AsyncPresence", "Presence"]


class PresenceBase(Common):
    """What both kinds need for it."""

    __slots__ = ()

    def _make_data(self, key: object, info: Any) -> bytes:
        """Return what a broker keeps of a member."""
        return make_entry(read_key(key, self._identity), info, self._provider.dumps, self._max_info)


class Presence(PresenceBase):
    """The part of :class:`WebSocket` about who is there."""

    __slots__ = ()

    def join(self, channel: str, key: str | int | None = None, info: Any = None) -> None:
        """Be a member of a channel, until :meth:`leave` or the end of the connection.

        ::

            ws.join("room:42", key=current_user.id, info={"name": current_user.name})

        The members with one key are one person, who is there once, however many connections there
        are, and leaves with the last. When a connection ends, it stays a member for
        ``SOCK_PRESENCE_GRACE`` seconds: a page that is refreshed has not left. To join is not to
        subscribe; it shows in :meth:`Sock.presence` and to those who :meth:`subscribe_presence`.

        To join again is to change the info. One channel more than ``SOCK_PRESENCE_MAX_JOINS``
        closes the connection with 1008. While the broker is away, nobody else is told; they are
        when it is back.

        :param channel: the channel's name.
        :param key: who it is: text, or a number, which is made text; by default the connection's
            :attr:`identity`.
        :param info: what others are told besides: anything that the app's JSON provider can write,
            by default ``{}``.
        :raises ConnectionClosed: the connection is closed.
        :raises TypeError: ``key`` is neither, or ``info`` cannot be written.
        :raises ValueError: there is no key; it is empty, longer than 255 bytes of UTF-8, or has a
            lone surrogate; the info has more than ``SOCK_PRESENCE_MAX_INFO`` bytes; or the
            channel's name cannot be one.
        """
        connection, data = connection_of(self), self._make_data(key, info)
        # Set before it is a member, so that its end is never missed.
        connection.when_released = self._channels.forget
        self._channels.attendance.join(
            connection,
            channel,
            data,
            limit=self._max_joins,
            alone=self._is_alone,
        )

    def leave(self, channel: str) -> None:
        """Be a member of a channel no more, at once. Does nothing if it is none.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        self._channels.attendance.leave(connection_of(self), channel)

    def subscribe_presence(self, channel: str) -> None:
        """Receive who is there: the members of a channel, and then each change, as messages.

        They are text, in JSON. The first has all keys; those after it tell, in one order for all,
        what has changed since::

            {"type": "presence", "channel": "room:42", "event": "state",
             "members": {"7": [{"name": "Ada"}]}}
            {"type": "presence", "channel": "room:42", "event": "join",
             "key": "8", "infos": [{"name": "Bob"}]}
            {"type": "presence", "channel": "room:42", "event": "leave", "key": "7"}

        ``"change"`` has the infos of a key as they are now. While the broker is away, nothing
        comes; then what is different. To subscribe twice is to subscribe once; it counts as one
        of ``SOCK_MAX_SUBSCRIPTIONS``.

        :param channel: the channel's name.
        :raises ConnectionClosed: the connection is closed.
        :raises ValueError: the name cannot be one.
        """
        connection = connection_of(self)
        # Set before the subscription exists, so that its end is never missed.
        connection.when_released = self._channels.forget
        self._channels.watch(
            connection,
            channel,
            limit=self._max_subscriptions,
            alone=self._is_alone,
        )

    def unsubscribe_presence(self, channel: str) -> None:
        """Receive no more of who is there. Does nothing if there is no subscription.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        self._channels.unwatch(connection_of(self), channel)


class AsyncPresence(PresenceBase):
    """The part of :class:`AsyncWebSocket` about who is there."""

    __slots__ = ()

    if TYPE_CHECKING:

        async def _beside(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any: ...

    async def join(self, channel: str, key: str | int | None = None, info: Any = None) -> None:
        """Be a member of a channel, until :meth:`leave` or the end of the connection.

        :param channel: the channel's name.
        :param key: who it is, as for :meth:`WebSocket.join`.
        :param info: what others are told besides, as for :meth:`WebSocket.join`.
        :raises ConnectionClosed: the connection is closed.
        :raises TypeError: ``key`` or ``info`` cannot be one.
        :raises ValueError: as for :meth:`WebSocket.join`.
        """
        await self._beside(
            self._channels.attendance.join,
            connection_of(self),
            channel,
            self._make_data(key, info),
            limit=self._max_joins,
            alone=self._is_alone,
        )

    async def leave(self, channel: str) -> None:
        """Be a member of a channel no more, at once. Does nothing if it is none.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        await self._beside(self._channels.attendance.leave, connection_of(self), channel)

    async def subscribe_presence(self, channel: str) -> None:
        """Receive who is there: the members of a channel, and then each change, as messages.

        :param channel: the channel's name. The messages are those of
            :meth:`WebSocket.subscribe_presence`.
        :raises ConnectionClosed: the connection is closed.
        :raises ValueError: the name cannot be one.
        """
        await self._beside(
            self._channels.watch,
            connection_of(self),
            channel,
            limit=self._max_subscriptions,
            alone=self._is_alone,
        )

    async def unsubscribe_presence(self, channel: str) -> None:
        """Receive no more of who is there. Does nothing if there is no subscription.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        await self._beside(self._channels.unwatch, connection_of(self), channel)
