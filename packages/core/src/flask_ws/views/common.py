"""What a ``ws`` of either kind has, for blocking code and for async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..connection.endpoint import connection_of
from ..wording import shown_path

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ..channels.channels import Channels
    from ..channels.results import Subscription
    from ..connection.endpoint import JSONProvider

__all__ = ["Common"]


class Common:
    """The part of a ``ws`` that is the same for both kinds."""

    if not TYPE_CHECKING:
        __slots__ = ()
    else:
        # Slots of the classes that derive from it.
        _channels: Channels
        _identity: str | None
        _max_info: int
        _max_joins: int
        _max_subscriptions: int
        _provider: JSONProvider
        environ: WSGIEnvironment

    @property
    def id(self) -> str:
        """A unique id of the connection, which lines of the log have as well."""
        label: str = connection_of(self).label.id
        return label

    @property
    def _is_alone(self) -> bool:
        """Whether the server runs no other processes."""
        return not self.environ.get("wsgi.multiprocess")

    def _subscribe(self, channel: str, **options: Any) -> Subscription:
        """Subscribe to a channel, with the options of :meth:`.Channels.subscribe`."""
        return self._channels.subscribe(
            connection_of(self),
            channel,
            limit=self._max_subscriptions,
            alone=self._is_alone,
            **options,
        )

    def __repr__(self) -> str:
        ws: Any = self
        state = "open" if ws.connected else f"closed {ws.close_code or ''}".strip()
        return f"<{type(ws).__name__} {shown_path(ws.environ)} {state}>"
