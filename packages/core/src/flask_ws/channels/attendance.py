"""Who is there: what connections and apps do with the members of channels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from ..connection.async_connection import AnyConnection
from ..plugin.presence import lease_of
from ..presence.roster import Roster
from ..protocol.close_codes import POLICY_VIOLATION
from .opening import Opened
from .settings import PRESENCE, check_name

__all__ = ["Attendance", "refuse_more"]

logger = logging.getLogger("flask_ws")


class Attendance:
    """The members of an app's channels. Any thread may use it.

    :param get: opens the broker, unless it is open.
    :param peek: returns what is open, if anything is.
    """

    def __init__(self, get: Callable[..., Opened], peek: Callable[[], Opened | None]) -> None:
        self._get = get
        self._peek = peek
        self._warned = False

    def join(
        self,
        connection: AnyConnection,
        channel: str,
        data: bytes,
        *,
        limit: int,
        alone: bool = True,
    ) -> None:
        """Have a connection be a member of a channel.

        :param data: its key and its info.
        :param limit: the channels that it may join, at most; one more ends it with 1008.
        :param alone: whether its server runs no other processes.
        :raises ConnectionClosed: the connection is closed.
        """
        check_name(channel)
        if not self.open(alone=alone).keeper.join(connection, channel, data, limit):
            refuse_more(connection, f"more than {limit} joins (SOCK_PRESENCE_MAX_JOINS)", "joins")

    def leave(self, connection: AnyConnection, channel: str) -> None:
        """Have a connection be a member no more; it need not be one."""
        check_name(channel)
        opened = self._peek()
        if opened is not None:
            opened.keeper.leave(connection, channel)

    def of(self, connection: AnyConnection) -> Collection[str]:
        """Return the channels that a connection is a member of; they may change."""
        opened = self._peek()
        return () if opened is None else opened.keeper.of(connection)

    def read(self, channel: str) -> str:
        """Return the infos of those who are there, by key, as JSON.

        :raises BrokerError: the broker cannot be reached.
        """
        check_name(channel)
        opened = self.open()
        found = opened.keeper.broker.read_members(opened.prefix + PRESENCE + channel)
        roster = Roster(channel)
        roster.replace(
            {
                member: data
                for member, data in found.members.items()
                if lease_of(member) not in found.lost
            }
        )
        return roster.as_json()

    def open(self, *, alone: bool = True) -> Opened:
        """Open the broker; say it once if it cannot tell who is there in other processes.

        :param alone: whether the server of the connection that needs it runs no other processes.
        """
        opened = self._get(alone=alone)
        if not (opened.broker.tracks_presence or self._warned):
            self._warned = True
            logger.warning(
                "The broker, %s, cannot tell who is there: presence is of this process only.",
                type(opened.broker).__name__,
            )
        return opened


def refuse_more(connection: AnyConnection, what: str, of: str) -> None:
    """Close a connection that has reached a limit.

    :param what: what that is, for the log.
    :param of: the same for the client.
    :raises ConnectionClosed: always.
    """
    logger.warning("%s: %s", connection.label, what)
    connection.sender.fail(POLICY_VIOLATION, f"too many {of}")
    connection.check_connected()
