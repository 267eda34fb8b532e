"""What a reactor needs to know of a connection."""

from __future__ import annotations

from typing import Protocol

from ..connection.cork import Cork
from ..label import Label

__all__ = ["Conversation"]


class Conversation(Protocol):
    """What the reactor serves: a connection, and what is to be done when it is readable."""

    @property
    def fd(self) -> int:
        """The file descriptor of the connection's socket."""

    @property
    def label(self) -> Label:
        """The connection's name in logs."""

    @property
    def at_work(self) -> float:
        """When the method has begun that is running; 0 if none is."""

    @property
    def ended(self) -> bool:
        """Whether the connection is closed or lost."""

    def serve(self, *, read: bool = True, cork: Cork | None = None) -> bool:
        """Read once without waiting, and handle what was read.

        :param read: ``False`` only handles what has been read already.
        :param cork: holds back what is sent while more messages are to be handled.
        :return: whether the connection goes on. If not, it is to be released.
        """

    @property
    def has_more(self) -> bool:
        """Whether to call :meth:`serve` again, after the other connections, without an event."""

    def give_up(self) -> None:
        """End the connection at once."""

    def stop_lingering(self) -> None:
        """Give the peer no more time to read the close frame."""
