"""What an app does with channels: publishing, subscribing a program, and asking about them."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any, TypeAlias

import flask

from ..channels.listening import Listening
from ..channels.results import Published
from ..connection.async_connection import AnyConnection
from ..connection.endpoint import connection_of
from ..loop.broker_threads import call_beside
from ..protocol.frames import BytesLike
from ..views.async_websocket import AsyncWebSocket
from ..views.websocket import WebSocket
from .state import AppState

__all__ = ["Excluded", "Publishing", "connections_of"]

#: Connections that do not get a message. Strings, because Python 3.10 cannot evaluate them.
Excluded: TypeAlias = "WebSocket | AsyncWebSocket | Collection[WebSocket | AsyncWebSocket] | None"


class Publishing:
    """The part of :class:`Sock` about channels."""

    def publish(
        self,
        channel: str,
        data: str | BytesLike,
        *,
        exclude: Excluded = None,
    ) -> Published:
        """Broadcast a message to all subscribers of a channel, in this process and in the others.

        It may be called from any thread, in an app context: from a view, a handler, or another
        program. It waits for no client: what one does not read at once is queued, up to
        ``SOCK_MAX_OUTBOX`` bytes; beyond that its connection is closed with 1013.

        All subscribers get the messages of a channel in the same order, each at most once: the
        order in which the broker, ``SOCK_BROKER_URL``, delivers them to every process, including
        this one. While the broker is unreachable, subscribers in this process get all messages
        directly, and those in other processes miss them.

        :param channel: the channel's name. It need not have subscribers.
        :param data: the message: ``str`` is sent as text; ``bytes``, ``bytearray`` and
            ``memoryview`` as binary.
        :param exclude: a connection that does not get the message, such as the one that it came
            from, or several.
        :return: an object that is true if the broker has the message, with the position of the
            message in the channel's history (``SOCK_HISTORY``). It is false if the broker is
            unreachable, and the message has reached the subscribers in this process only. The log
            has a line when it becomes unreachable and one when it is reachable again.
        :raises TypeError: ``data`` is no message, or ``channel`` no ``str``.
        :raises ValueError: the channel's name is empty, longer than 255 bytes of UTF-8, or has a
            lone surrogate.
        """
        channels = AppState.of(flask.current_app).channels
        return channels.publish(channel, data, connections_of(exclude))

    def publish_json(
        self,
        channel: str,
        data: Any,
        *,
        exclude: Excluded = None,
        **kwargs: Any,
    ) -> Published:
        """Broadcast ``data`` as JSON, in a text message, to all subscribers of a channel.

        :param channel: the channel's name.
        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param exclude: as for :meth:`publish`.
        :param kwargs: passed on to the provider's ``dumps``.
        :return: as :meth:`publish`.
        """
        channels, text = AppState.of(flask.current_app).channels, flask.json.dumps(data, **kwargs)
        return channels.publish(channel, text, connections_of(exclude), is_json=True)

    async def apublish(
        self,
        channel: str,
        data: str | BytesLike,
        *,
        exclude: Excluded = None,
    ) -> Published:
        """Broadcast a message as :meth:`publish`, in a coroutine: other tasks run meanwhile.

        For async handlers and event views, and for Flask's async views. A broker that does not
        answer holds up no loop. When the task is cancelled, the message may still be published.

        :param channel: the channel's name.
        :param data: as for :meth:`publish`.
        :param exclude: as for :meth:`publish`.
        :return: as :meth:`publish`.
        :raises TypeError: ``data`` is no message, or ``channel`` no ``str``.
        :raises ValueError: the channel's name cannot be one.
        """
        if isinstance(data, (bytearray, memoryview)):
            # Another task may change it later.
            data = bytes(data)
        return await _publish_beside(channel, data, exclude, is_json=False)

    async def apublish_json(
        self,
        channel: str,
        data: Any,
        *,
        exclude: Excluded = None,
        **kwargs: Any,
    ) -> Published:
        """Broadcast ``data`` as JSON, as :meth:`publish_json`, in a coroutine.

        :param channel: the channel's name.
        :param data: what the app's JSON provider can write (:attr:`flask.Flask.json`).
        :param exclude: as for :meth:`publish`.
        :param kwargs: passed on to the provider's ``dumps``.
        :return: as :meth:`publish`.
        """
        text = flask.json.dumps(data, **kwargs)
        return await _publish_beside(channel, text, exclude, is_json=True)

    def listen(self, channel: str, *, since: str | None = None) -> Listening:
        """Subscribe this program to a channel, from now on, until it is closed.

        ::

            with sock.listen("jobs:7", since="all") as messages:
                for message in messages:
                    print(message.position, message.data)

        A thousand messages wait for a program at most; past that the oldest are dropped. Where
        some are missing, :attr:`Message.after_gap` of the next one says so.

        :param channel: the channel's name.
        :param since: the position up to which the program has the messages, or ``"all"`` for
            everything that is kept, as for :meth:`WebSocket.subscribe`.
        :return: an iterator of :class:`Message`, which waits for each; its ``receive(timeout)``
            waits for so many seconds at most. Any thread may use it.
        :raises TypeError: ``since`` is no text.
        :raises ValueError: the channel's name is empty, longer than 255 bytes of UTF-8, or has a
            lone surrogate.
        """
        return AppState.of(flask.current_app).channels.listen(channel, since)

    def position(self, channel: str) -> str | None:
        """Return a channel's position now, to be rendered into a page that subscribes.

        Ask for it before reading what the page shows: ``since=`` this position, the page then
        misses nothing that comes later.

        :param channel: the channel's name.
        :return: opaque text; ``None`` if the channel has no history (``SOCK_HISTORY``), or the
            broker is unreachable.
        :raises ValueError: the name is empty, longer than 255 bytes of UTF-8, or has a lone
            surrogate.
        """
        return AppState.of(flask.current_app).channels.position(channel)

    def subscribers(self, channel: str) -> int:
        """Count the connections in this process that are subscribed to a channel.

        :param channel: the channel's name.
        :raises ValueError: it cannot be one.
        """
        return AppState.of(flask.current_app).channels.count(channel)


async def _publish_beside(
    channel: str,
    data: str | BytesLike,
    exclude: Excluded,
    *,
    is_json: bool,
) -> Published:
    channels, excluded = AppState.of(flask.current_app).channels, connections_of(exclude)
    if channels.is_local:
        return channels.publish(channel, data, excluded, is_json=is_json)
    publish = functools.partial(channels.publish, is_json=is_json)
    return await call_beside(publish, channel, data, excluded)


def connections_of(exclude: Excluded) -> Collection[AnyConnection]:
    """Return the connections that do not get a message."""
    if exclude is None:
        return ()
    if isinstance(exclude, (WebSocket, AsyncWebSocket)):
        return (connection_of(exclude),)
    return {connection_of(ws) for ws in exclude}
