"""What publishing and subscribing tell the app."""

from __future__ import annotations

from ..plugin.history import Position
from .overflow import Lossy

__all__ = ["NOT_TAKEN", "TAKEN", "Published", "Subscription"]


class Published:
    """What :meth:`Sock.publish` returns: true when the broker has the message.

    :param is_taken: whether it has.
    :param position: the message's position, or its text.
    """

    __slots__ = ("_is_taken", "_position")

    def __init__(self, is_taken: bool, position: str | Position | None = None) -> None:
        self._is_taken = is_taken
        self._position = position

    @property
    def position(self) -> str | None:
        """The position of the message in the channel's history.

        It is opaque text for ``ws.subscribe(since=...)``. ``None`` for a channel without history,
        and if the broker does not have the message.
        """
        # Most publishers do not ask for it.
        return None if self._position is None else str(self._position)

    def __bool__(self) -> bool:
        return self._is_taken

    def __eq__(self, other: object) -> bool:
        if isinstance(other, bool):
            return self._is_taken is other
        if isinstance(other, Published):
            return (self._is_taken, self.position) == (other._is_taken, other.position)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._is_taken)

    def __repr__(self) -> str:
        position = "" if self.position is None else f" {self.position}"
        return f"<Published {self._is_taken}{position}>"


TAKEN, NOT_TAKEN = Published(True), Published(False)


class Subscription:
    """What :meth:`WebSocket.subscribe` returns.

    :param position: the channel's position.
    :param recovered: whether nothing is missing.
    """

    __slots__ = ("_sender", "position", "recovered")

    def __init__(self, position: str | None, *, recovered: bool) -> None:
        self._sender: Lossy | None = None
        #: The channel's position now: opaque text for a later ``since``. The client gets what
        #: comes after it, and has been sent what was missed before it. ``None`` for a channel
        #: without history, and if the broker is unreachable.
        self.position = position
        #: Whether everything after ``since`` is sent: ``False`` means a gap. Without ``since``,
        #: and with ``"all"``, it is ``True``.
        self.recovered = recovered

    @property
    def gap(self) -> bool:
        """Whether messages after ``since`` are missing, or may be."""
        return not self.recovered

    @property
    def dropped(self) -> int:
        """Messages so far that the client was not sent, since it reads too slowly (``overflow``).

        They include those that a newer one has replaced.
        """
        return 0 if self._sender is None else self._sender.dropped

    def counted_by(self, sender: Lossy | None) -> Subscription:
        """Return the same with what counts the messages that the client is not sent."""
        if sender is None:
            return self
        counted = Subscription(self.position, recovered=self.recovered)
        counted._sender = sender
        return counted

    def __repr__(self) -> str:
        return f"<Subscription {self.position} {'recovered' if self.recovered else 'with a gap'}>"
