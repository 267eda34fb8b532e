"""Looking now and then for code of the app that blocks other connections, or does not end."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..sparing import warn_sparingly
from ..whereabouts import Whereabouts
from ..wording import counted

if TYPE_CHECKING:
    from ..connection.async_connection import AnyConnection
    from .reactor import Reactor

__all__ = ["BlockedCode"]

#: Seconds that a handler has to notice that its connection has ended.
GRACE = 2.0
#: Seconds that methods of event views may hold all threads.
HOLD = 1.0
#: Handlers that a line of the log names.
SHOWN = 8


class BlockedCode:
    """Warns of handlers that do not end with their connections, and of methods that block."""

    def __init__(self) -> None:
        # Since when the connections are seen to have ended whose handlers run on; and which of
        # them were warned of.
        self._ended: dict[AnyConnection, float] = {}
        self._told: set[AnyConnection] = set()

    def look_at_handlers(
        self, now: float, lingering: Collection[AnyConnection], stopping: Collection[AnyConnection]
    ) -> None:
        """Warn of handlers whose connection has ended some time ago.

        :param lingering: the connections that have ended, and whose handlers still run.
        :param stopping: those among them whose server stops.
        """
        self._ended = {each: self._ended.get(each, now) for each in lingering}
        self._told &= self._ended.keys()
        late = [
            each
            for each, since in self._ended.items()
            if now - since >= GRACE and each not in self._told
        ]
        self._told.update(late)
        waited_for = [each for each in late if each in stopping]
        if waited_for:
            names = [f"{each.label.endpoint} ({each.work})" for each in waited_for[:SHOWN]]
            more = len(waited_for) - len(names)
            warn_sparingly(
                "stopping",
                "The server is stopping, with %s still running: %s%s. ws.connected tells a handler "
                "that its connection has ended, and send() and receive() raise ConnectionClosed.",
                counted(len(waited_for), "handler"),
                ", ".join(names),
                f" and {more} more" if more else "",
            )
        for each in late:
            if each not in stopping:
                warn_sparingly(
                    ("lingering", each.label.endpoint),
                    "%s: the handler of %s still runs %g s after its connection has ended, at %s. "
                    "ws.connected tells it so, and send() and receive() raise ConnectionClosed.",
                    each.label,
                    each.label.endpoint,
                    GRACE,
                    str(each.work),
                )

    def look_at_reactor(self, now: float, reactor: Reactor) -> None:
        """Warn if methods of event views hold all of its threads."""
        held = reactor.find_held(now - HOLD)
        for conversation, thread in held:
            warn_sparingly(
                ("held", conversation.label.endpoint),
                "%s: a method of %s has held its thread for %.1f s, at %s; all %d SOCK_WORKERS are "
                "busy, and messages of other connections wait. A handler may wait, in a thread of "
                "its own; or raise SOCK_WORKERS.",
                conversation.label,
                conversation.label.endpoint,
                now - conversation.at_work,
                str(Whereabouts(thread)),
                len(held),
            )
