"""The broker contract: what carries publications between processes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from .history import History, Position, Retention
from .presence import Lease, Members

__all__ = ["Broker", "Deliver"]

logger = logging.getLogger("flask_ws")


class Deliver(Protocol):
    """What :meth:`Broker.start <flask_ws.Broker.start>` is given."""

    def __call__(self, channel: str, payload: bytes, position: Position | None = None) -> object:
        """Deliver a publication.

        :param position: that of a message of
            :meth:`Broker.publish_kept <flask_ws.Broker.publish_kept>`, or of a change of
            :meth:`Broker.change_members <flask_ws.Broker.change_members>`.
        """


class Broker:
    """Carries publications to the other processes that have the same broker.

    A plugin derives from this class, and returns an instance from the hook
    ``flask_ws_open_broker``. The broker delivers to the other processes, and flask-ws itself to
    subscribers in this process, unless :attr:`brings_back` is true. Channels and payloads are
    opaque here: names have the app's prefix (``SOCK_BROKER_PREFIX``), payloads are what
    :meth:`publish` was given, byte for byte.

    Nothing may be connected, and no thread started, before :meth:`start`, which each process
    calls for an instance of its own: so an app that was loaded before a fork works in each child.
    Every method may be called from any thread, and by several at once; with an unpatched gevent
    or eventlet server from the thread of its hub, whose connections all wait meanwhile. No lock
    of flask-ws is held, and :meth:`subscribe` and :meth:`unsubscribe` are called for one channel by
    one thread at a time.

    The order of one thread's publications on one channel is kept. A broker that loses its
    connection calls :meth:`went_away`, connects again by itself, first quickly and then with
    growing pauses, subscribes again to all that is subscribed to, and calls :meth:`came_back`.
    """

    #: Whether it delivers to a process its own publications, too, and to all processes the
    #: publications on a channel in the same order. Then flask-ws waits for them, and delivers them
    #: itself only if :meth:`publish` failed, :meth:`is_deaf` is true, or :meth:`interrupted` was
    #: called.
    brings_back = False

    #: Whether channels can have a history (``SOCK_HISTORY``): :meth:`publish_kept` and
    #: :meth:`read_history` work.
    keeps_history = False

    #: Whether it can tell, across all processes, what is used for the first time:
    #: :meth:`use_once` works. Without it, a ticket (:meth:`flask_ws.Sock.ticket`) may be used once
    #: in each process.
    uses_once = False

    #: Whether it can tell, across all processes, who is there: :meth:`change_members`,
    #: :meth:`read_members`, :meth:`renew_lease` and :meth:`expire_members` work. Without it, a
    #: process knows its own members only.
    tracks_presence = False

    #: Set by flask-ws: called by :meth:`interrupted`.
    on_interruption: Callable[[str | None], object] | None = None
    #: Set by flask-ws: called with a reason by :meth:`went_away`, and with ``None`` by
    #: :meth:`came_back`.
    on_change: Callable[[str | None], object] | None = None

    def __init__(self) -> None:
        self._state_lock = threading.Lock()
        self._away = False

    def start(self, deliver: Deliver) -> None:
        """Get ready; called once, before anything else.

        A failure to connect is no error here: the broker keeps trying. What a process may not
        need, such as a listener while nothing is subscribed to, should be started later.

        :param deliver: to be called with the channel and the payload of each publication of
            another process; from any thread, in the order of arrival. It does not wait for
            clients and does not raise. It may be called for this process's own publications as
            well, and must be where :attr:`brings_back` is true.
        """
        raise NotImplementedError

    def publish(self, channel: str, payload: bytes) -> int | None:
        """Send a publication to the other processes.

        :param channel: the channel's name, with the prefix.
        :param payload: what the other processes' ``deliver`` is to get.
        :return: how many processes are sent it, where the broker knows at once; where
            :attr:`brings_back` is true, this one may be among them. flask-ws waits for the answers
            of so many; with ``None``, for a second.
        :raises BrokerError: they cannot be reached now. Raised within a second or two at
            most, and at once if the broker is known to be unreachable.
        """
        raise NotImplementedError

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Publish a message and keep it; called only where :attr:`keeps_history` is true.

        In one step it gets the next offset, is added to the channel's history, and is sent to all
        processes that are subscribed, this one included: their ``deliver`` gets its position,
        too, and the messages of a channel in the order of their positions. What is older than
        ``retention`` allows is dropped. A history that is begun anew, since there was none or it
        was lost, has a new epoch; a channel without messages keeps its epoch for a day or so.

        :param channel: the channel's name, with the prefix.
        :param payload: what ``deliver`` and :meth:`read_history` are to give.
        :param retention: how much of the channel is kept.
        :return: the message's position.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Return a channel's position, and what was kept after another.

        Called only where :attr:`keeps_history` is true, and by threads of flask-ws's own, too. A
        channel on which nothing was published has a position as well.

        :param channel: the channel's name, with the prefix.
        :param retention: how much of it is kept; what is older is left out.
        :param since: the position whose later messages are wanted, as far as they are kept; all
            that are kept, if its epoch is not the channel's. ``None`` for no messages.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def subscribe(self, channel: str) -> None:
        """Subscribe this process to a channel: it now has subscribers.

        Calls for one channel alternate with those of :meth:`unsubscribe`. It must not wait for
        the network for long, and does not raise if the broker is unreachable: the subscription is
        made when it is reachable again. Otherwise, what another process publishes after this
        method has returned should arrive. If it raises, nothing is subscribed.

        :param channel: the channel's name, with the prefix.
        """
        raise NotImplementedError

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe this process from a channel: it has no subscribers any more.

        It does not wait for the network: it is called when a connection ends.

        :param channel: the channel's name, with the prefix.
        """
        raise NotImplementedError

    def is_deaf(self, channel: str) -> bool:
        """Tell whether what is published on a channel does not come back to this process now.

        Called after each publication, if :attr:`brings_back` is true. It does not wait.

        :param channel: the channel's name, with the prefix.
        """
        return self._away

    def use_once(self, key: str, seconds: float) -> bool:
        """Take note that something is used; called only where :attr:`uses_once` is true.

        Of all calls with one key, in all processes, one returns ``True``.

        :param key: what is used: text of ASCII, with the app's prefix.
        :param seconds: for how long it is remembered at least.
        :return: whether it is the first time.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members of this process into a channel, and drop others, in one step.

        Called only where :attr:`tracks_presence` is true, as the next three are, and by threads of
        flask-ws's own. Members are dropped in any case, and put only if the lease is held with this
        term.

        Each change gets the channel's next number, and is sent to all processes that are
        subscribed, this one included: their ``deliver`` gets the payload of a
        :class:`MemberChange` and its position, in the order of positions. What changes nothing, as
        a member that is there with the same data, has no number and is not sent. The numbers begin
        at 1, with a new epoch, where the channel has no record, or has lost it. A record may be
        forgotten an hour after it was last used; flask-ws puts members again sooner than that.

        :param channel: the channel's name, with the prefix.
        :param lease: that of this process.
        :param put: the data of members, by their ids. An id is the name of the lease, a dot and a
            number, and belongs to one member for ever.
        :param dropped: the ids of members to drop; they may not be there.
        :return: whether the lease is held with this term: ``False`` if nothing was put.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def read_members(self, channel: str) -> Members:
        """Return a channel's members and the position after the last change, in one step.

        It drops no members. A channel without a record is at offset 0 of the epoch ``""``.

        :param channel: the channel's name, with the prefix.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str] | None:
        """Hold a lease from now on for some seconds, with its term.

        If it is held with a higher term, nothing is done: the command is late.

        :param lease: that of this process.
        :param seconds: for how long; it may be shorter than before.
        :param channels: channels for which it is to be held, with the prefix; a broker that holds
            a lease in one place for all channels ignores them.
        :return: those of these channels in which it was not held before, since it is new there,
            or was lost; ``None`` if it was not held for any channel, of these or others.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members that depend on leases which nobody holds any more.

        Each of them is dropped once, as by :meth:`change_members`, though several processes
        call this at the same time, or the lease is renewed at that moment.

        :param leases: by channel, with the prefix, the names of leases that are known to have
            members there; ``None`` to look for all that have any.
        :raises BrokerError: as for :meth:`publish`.
        """
        raise NotImplementedError

    def channels(self, prefix: str) -> dict[str, int] | None:
        """Tell which channels have subscribers, and in how many processes.

        :param prefix: only channels whose names begin with it.
        :return: the numbers of processes by channel name, with the prefix; ``None`` if the
            broker cannot tell.
        :raises BrokerError: it is unreachable.
        """
        return None

    def close(self) -> None:
        """Disconnect, and end all threads soon. No method is called after it."""
        raise NotImplementedError

    @property
    def is_away(self) -> bool:
        """Whether :meth:`went_away` was called last, and not :meth:`came_back`."""
        return self._away

    def went_away(self, reason: str) -> None:
        """Log once that the broker cannot be reached; flask-ws calls it, too, if a call fails.

        :param reason: what happened, without passwords.
        """
        with self._state_lock:
            was_away, self._away = self._away, True
        # Each time: something may have arrived since the last.
        self.interrupted()
        if was_away:
            return
        logger.warning(
            "The broker is away: publications reach this process's subscribers only. %s", reason
        )
        if self.on_change is not None:
            self.on_change(reason)

    def interrupted(self, channel: str | None = None) -> None:
        """Report that publications may have been lost on their way to this process.

        :meth:`went_away` does so for all channels.

        :param channel: the one channel concerned, with the prefix; ``None`` for all.
        """
        if self.on_interruption is not None:
            self.on_interruption(channel)

    def came_back(self) -> None:
        """Log once that the broker can be reached again, for publications and subscriptions."""
        with self._state_lock:
            if not self._away:
                return
            self._away = False
        logger.warning("The broker is back: publications reach all processes again.")
        if self.on_change is not None:
            self.on_change(None)
