"""Placer: which server of a cluster a process listens to for which channels."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisClusterException

from flask_ws import BrokerError, BrokerHealth, BrokerWish

from .listener import Listener
from .settings import Settings
from .shared import SharedClient
from .topology import ERRORS, Topology

__all__ = ["Placer"]

logger = logging.getLogger("flask_ws")

#: Seconds that :meth:`Placer.close` waits for the thread, at most.
CLOSE_SECONDS = 5.0


class Placer:
    """Listens at the server of each channel that is subscribed to, and finds it again.

    One thread does that, from the first subscription on; servers fail, and give their channels to
    others.

    :param topology: the servers.
    :param settings: how to reach one.
    :param interrupted: called with a channel of which messages may have been lost; with ``None``
        for all.
    """

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        interrupted: Callable[[str | None], object],
    ) -> None:
        self._topology = topology
        self._settings = settings
        #: Called for each message with its channel and payload; set before the first subscription.
        self.deliver: Callable[[str, bytes], object] = _drop
        self._interrupted = interrupted
        self._lock = threading.Lock()
        # The channels that are wanted; those that are to be placed; those whose servers may
        # have changed; and whether any has.
        self._wanted: dict[str, BrokerWish] = {}
        self._changed: dict[str, None] = {}
        self._misplaced: dict[str, None] = {}
        self._is_outdated = False
        self._has_work = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        # What the thread alone uses: listeners by the servers' names, and by their channels.
        self._listeners: dict[str, Listener] = {}
        self._placed: dict[str, Listener] = {}

    def wish(self, channel: str, wish: BrokerWish | None) -> None:
        """Have a channel subscribed to, or not any more; does not wait.

        :param wish: set when it is; ``None`` for not any more.
        """
        with self._lock:
            replaced = self._wanted.pop(channel, None)
            if wish is not None:
                self._wanted[channel] = wish
                self._start()
            self._changed[channel] = None
            self._has_work.set()
        if replaced is not None:
            replaced.set()

    def is_deaf(self, channel: str) -> bool:
        """Tell whether nothing of a channel arrives now."""
        listener = self._placed.get(channel)
        return listener is None or listener.is_deaf(channel)

    def close(self) -> None:
        """End the thread, and listen no more."""
        with self._lock:
            self._closing.set()
            self._has_work.set()
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS)
        for listener in list(self._listeners.values()):
            listener.close()

    def _start(self) -> None:
        if self._thread is None and not self._closing.is_set():
            self._thread = threading.Thread(
                target=self._place_all, name="flask_ws.Redis-placer", daemon=True
            )
            self._thread.start()

    def _misplace(self, channel: str | None) -> None:
        """Have a channel's server found again; with ``None``, those of all."""
        with self._lock:
            self._is_outdated = True
            if channel is not None:
                self._misplaced[channel] = None
            self._has_work.set()
        # What has been published since its server was found may have gone elsewhere.
        self._interrupted(channel)

    def _place_all(self) -> None:
        attempts, next_time, is_outdated = 0, 0.0, False
        while True:
            pause = max(0.0, next_time - time.monotonic()) if is_outdated else None
            self._has_work.wait(pause)
            if self._closing.is_set():
                return
            with self._lock:
                self._has_work.clear()
                is_outdated = self._is_outdated
                changed, self._changed = self._changed, {}
            now = time.monotonic()
            refreshes = is_outdated and now >= next_time
            if refreshes:
                # The first time at once; then with delays, to spare a cluster that is incomplete.
                attempts = attempts + 1 if now - next_time < 2 * BrokerHealth.longest_delay else 1
                next_time = now + BrokerHealth.backoff(attempts)
            try:
                client = self._topology.connect()
                with client as cluster:
                    if refreshes:
                        self._refresh(client, cluster)
                        is_outdated = self._is_outdated
                    wishes = [self._place(channel, cluster) for channel in changed]
            except Exception as error:
                if not isinstance(error, (BrokerError, *ERRORS)):
                    # Nothing may end this thread: nobody else places channels.
                    logger.exception("Subscribing to channels failed; it is tried again.")
                is_outdated = True
                self._give_up(changed, error)
            else:
                self._settle(wishes)

    def _refresh(self, client: SharedClient, cluster: Any) -> None:
        """Ask for the servers, and follow the channels that have moved to others."""
        with self._lock:
            self._is_outdated = False
            misplaced, self._misplaced = self._misplaced, {}
            channels = list(self._wanted)
        try:
            cluster.nodes_manager.initialize()
            for channel in channels:
                self._place(channel, cluster, again=channel in misplaced)
        except ERRORS as error:
            if isinstance(error, RedisClusterException):
                self._topology.give_up(client)
            with self._lock:
                self._is_outdated = True
                self._misplaced = {**misplaced, **self._misplaced}
            raise
        used = set(map(id, self._placed.values()))
        for name, listener in list(self._listeners.items()):
            if id(listener) not in used:
                del self._listeners[name]
                listener.close()
        self._topology.forget_strangers(cluster)

    def _give_up(self, changed: dict[str, None], error: Exception) -> None:
        """Release those who wait, and try again later."""
        # What the topology raises has been counted; twice, the delays would grow too fast.
        if not isinstance(error, BrokerError):
            self._topology.whole.fail_to_listen(error)
        with self._lock:
            self._is_outdated = True
            self._changed = {**changed, **self._changed}
            wishes = list(self._wanted.values())
        for wish in wishes:
            wish.set()

    def _settle(self, wishes: list[BrokerWish | None]) -> None:
        """Report that the cluster was found, once the channels wanted meanwhile are confirmed."""
        if self._topology.whole.is_gone:
            for wish in wishes:
                if wish is not None:
                    wish.wait()
            self._topology.whole.succeed(listener=True)

    def _place(self, channel: str, cluster: Any, *, again: bool = False) -> BrokerWish | None:
        """Have the listener of its server subscribe to a channel, and no other.

        :param again: whether to subscribe again at a server that had it before.
        """
        old = self._placed.get(channel)
        with self._lock:
            wish = self._wanted.get(channel)
        if wish is None:
            self._placed.pop(channel, None)
            listener = None
        else:
            listener = self._listen_to(cluster.get_node_from_key(channel))
            self._placed[channel] = listener
            if wish.is_set() and (listener is not old or again):
                # A wish is set once only: the new subscription needs another.
                with self._lock:
                    wish = BrokerWish()
                    if channel in self._wanted:
                        self._wanted[channel] = wish
            listener.subscribe(channel, wish)
        if old is not None and old is not listener:
            old.unsubscribe(channel)
        return wish

    def _listen_to(self, node: Any) -> Listener:
        listener = self._listeners.get(node.name)
        if listener is None:
            settings, place = self._settings, {"host": node.host, "port": node.port}
            listener = self._listeners[node.name] = Listener(
                lambda: settings.make_connection(**place),
                self.deliver,
                self._topology.health(node.name),
                sharded=True,
                on_misplaced=self._misplace,
                on_loss=lambda: self._misplace(None),
            )
        return listener


def _drop(channel: str, payload: bytes) -> None:
    """Do nothing: nobody listens yet."""
