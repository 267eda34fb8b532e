"""What was said on a connection: shown when a test has failed."""

from __future__ import annotations

import time
from collections import deque

from flask_ws.protocol.frames import BytesLike

__all__ = ["Transcript", "recent"]

#: The last entries that are kept of a connection, and the part of a message that is shown.
MOST_ENTRIES = 50
SHOWN_LENGTH = 200
#: The last connections that are remembered.
MOST_CONNECTIONS = 20


class Transcript:
    """What the test and the app said to each other, and when.

    :param path: the path that was connected to.
    """

    def __init__(self, path: str) -> None:
        #: The path that was connected to.
        self.path = path
        self._began = time.monotonic()
        self._entries: deque[str] = deque(maxlen=MOST_ENTRIES)
        self._omitted = 0
        recent.append(self)

    def add_message(self, what: str, message: str | BytesLike) -> None:
        """Add a message.

        :param what: ``"sent"`` or ``"received"``.
        :param message: the message.
        """
        shown = repr(message if isinstance(message, str) else bytes(message))
        more = len(shown) - SHOWN_LENGTH
        self.add(what, shown if more <= 0 else f"{shown[:SHOWN_LENGTH]}... ({more} more)")

    def add(self, what: str, detail: str = "") -> None:
        """Add an entry.

        :param what: what happened, in a word.
        :param detail: what else there is to say of it.
        """
        self._omitted += len(self._entries) == MOST_ENTRIES
        seconds = time.monotonic() - self._began
        self._entries.append(f"{seconds:8.3f} s  {what:8}  {detail}".rstrip())

    def __str__(self) -> str:
        omitted = [f"({self._omitted} entries before these)"] if self._omitted else []
        return "\n".join([*omitted, *self._entries])


#: Those of the last connections of this process, the oldest first.
recent: deque[Transcript] = deque(maxlen=MOST_CONNECTIONS)
