"""ClusterBroker: publications through a cluster, where each channel has its own server."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from flask_ws import (
    Broker,
    BrokerError,
    BrokerHealth,
    BrokerWish,
    History,
    Lease,
    Members,
    Position,
    Retention,
)

from . import history, presence
from .clock import ServerClock
from .history import Histories
from .keys import find_slot, lease_key
from .listener import Listener
from .scripts import Execute
from .server import TURN_SECONDS, decode, escape, use
from .settings import Settings
from .shared import SharedClient

__all__ = ["ClusterBroker"]

logger = logging.getLogger("flask_ws")

T = TypeVar("T")

#: Seconds that :meth:`ClusterBroker.close` waits for the placer, at most.
CLOSE_SECONDS = 5.0

#: The cluster's own name, among the names of its servers.
WHOLE = ""

#: What redis-py raises for a cluster that cannot be reached, or is incomplete.
ERRORS = (RedisError, RedisClusterException, OSError)


class ClusterBroker(Broker):
    """A broker on a cluster, by sharded publications (Redis 7 and Valkey have them).

    Each channel belongs to one of the servers: there it is published, and there a listener is
    subscribed to it. One thread, the placer, finds the server of each channel that is subscribed
    to, and finds it again when servers fail or give their slots to others.

    :param settings: how to reach it.
    """

    brings_back = True
    keeps_history = True
    uses_once = True
    tracks_presence = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._histories = Histories("SPUBLISH", settings.answer_timeout)
        # By the servers' names.
        self._clocks: dict[str, ServerClock] = {}
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._client: SharedClient | None = None
        # The cluster's is about finding its servers; theirs are kept by name.
        self._whole = self._make_health(settings.full_name, WHOLE)
        self._healths: dict[str, BrokerHealth] = {}
        self._gone: set[str] = set()
        # The channels that are wanted; those that are to be placed; those whose servers may
        # have changed; and whether any has.
        self._wanted: dict[str, BrokerWish] = {}
        self._changed: dict[str, None] = {}
        self._misplaced: dict[str, None] = {}
        self._is_outdated = False
        self._has_work = threading.Event()
        self._closing = threading.Event()
        self._placer: threading.Thread | None = None
        # What the placer alone uses: listeners by the servers' names, and by their channels.
        self._listeners: dict[str, Listener] = {}
        self._placed: dict[str, Listener] = {}

    def start(self, deliver: Callable[..., object]) -> None:
        """Get ready; connections are made when they are needed."""
        self._deliver = history.opening(deliver)

    def publish(self, channel: str, payload: bytes) -> None:
        """Publish, once: what fails is not tried again, since it might arrive twice.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :raises BrokerError: the channel's server cannot be reached.
        :raises ValueError: the channel has no UTF-8.
        """
        name = channel.encode()
        client, node = self._find(channel)
        self._ask(client, node, "SPUBLISH", name, history.wrap(payload))

    def publish_kept(self, channel: str, payload: bytes, retention: Retention) -> Position:
        """Publish a message, and keep it.

        :param channel: the channel.
        :param payload: what the subscribers get.
        :param retention: how much is kept.
        :return: its position.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        client, node = self._find(channel)
        clock = self._clocks.get(node.name)
        if clock is None:
            clock = ServerClock(self._settings.answer_timeout)
            clock = self._clocks.setdefault(node.name, clock)
        return self._call(
            client,
            node,
            lambda execute: self._histories.keep(execute, clock, name, payload, retention),
        )

    def read_history(
        self, channel: str, retention: Retention, since: Position | None = None
    ) -> History:
        """Read what is kept, and the position.

        :param channel: the channel.
        :param retention: how much is kept.
        :param since: what came before it is left out.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        return self._call(
            *self._find(channel),
            lambda execute: self._histories.read(execute, name, retention, since),
        )

    def change_members(
        self, channel: str, lease: Lease, put: Mapping[str, bytes], dropped: Collection[str]
    ) -> bool:
        """Put members into a channel, and drop others.

        :param channel: the channel.
        :param lease: what those that are put depend on.
        :param put: their data.
        :param dropped: who is dropped.
        :return: whether the lease is held in the channel's slot.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        keys = functools.partial(lease_key, find_slot(name))
        return self._call(
            *self._find(channel),
            lambda execute: presence.change(
                execute, name, lease, put, dropped, lease_key=keys, command="SPUBLISH"
            ),
        )

    def read_members(self, channel: str) -> Members:
        """Read the members of a channel.

        :param channel: the channel.
        :raises BrokerError: the channel's server cannot be reached.
        """
        name = channel.encode()
        keys = functools.partial(lease_key, find_slot(name))
        return self._call(
            *self._find(channel), lambda execute: presence.read(execute, name, lease_key=keys)
        )

    def renew_lease(
        self, lease: Lease, seconds: float, channels: Collection[str]
    ) -> Collection[str]:
        """Hold a lease, in the slots of channels.

        :param lease: the lease.
        :param seconds: for how long.
        :param channels: the channels.
        :return: those in which it was not held before.
        :raises BrokerError: the server of one of them cannot be reached.
        """
        by_slot: dict[int, list[str]] = {}
        for channel in channels:
            by_slot.setdefault(find_slot(channel.encode()), []).append(channel)
        lost: list[str] = []
        for slot, names in by_slot.items():
            key = lease_key(slot, lease.name)
            renew = functools.partial(presence.renew, key=key, lease=lease, seconds=seconds)
            if not self._call(*self._find(names[0]), renew):
                lost += names
        return lost

    def expire_members(self, leases: Mapping[str, Collection[str] | None]) -> None:
        """Drop the members whose leases are lost.

        :param leases: those that have members, by channel.
        :raises BrokerError: the server of a channel cannot be reached.
        """
        for channel, names in leases.items():
            name = channel.encode()
            expire = functools.partial(
                presence.expire,
                channel=name,
                leases=names,
                lease_key=functools.partial(lease_key, find_slot(name)),
                command="SPUBLISH",
            )
            self._call(*self._find(channel), expire)

    def _find(self, channel: str) -> tuple[SharedClient, Any]:
        """Find the server of a channel."""
        client = self._connect()
        attempt = self._whole.check()
        try:
            with client as cluster:
                return client, cluster.get_node_from_key(channel)
        except ERRORS as error:
            self._whole.fail(error, attempt)
            raise BrokerError(f"{self._settings.full_name}: {error}") from error

    def subscribe(self, channel: str) -> None:
        """Subscribe; returns when the channel's server has confirmed it, or is away.

        :param channel: the channel.
        :raises ValueError: it has no UTF-8.
        """
        channel.encode()
        wish = BrokerWish()
        self._leave(channel, wish)
        try:
            wish.wait()
        except BaseException:
            # Such as a greenlet's timeout: for the caller, nothing is subscribed.
            self._leave(channel, None)
            raise

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe.

        :param channel: the channel.
        """
        self._leave(channel, None)

    def use_once(self, key: str, seconds: float) -> bool:
        """Take note that something is used; ``True`` for the first time.

        :param key: what is used.
        :param seconds: for how long to remember it.
        :raises BrokerError: the key's server cannot be reached.
        """
        return self._ask(*self._find(key), *use(key, seconds)) is not None

    def is_deaf(self, channel: str) -> bool:
        """Tell whether its server does not send this process what is published on a channel.

        :param channel: the channel.
        """
        listener = self._placed.get(channel)
        return listener is None or listener.is_deaf(channel)

    def channels(self, prefix: str) -> dict[str, int]:
        """Ask the servers for the channels that have subscribers.

        :param prefix: how their names begin.
        :return: the numbers of processes, by channel.
        :raises BrokerError: one of the servers cannot be reached.
        """
        found: dict[str, int] = {}
        client = self._connect()
        with client as cluster:
            for node in cluster.get_primaries():
                names = self._ask(client, node, "PUBSUB SHARDCHANNELS", escape(prefix) + b"*")
                if names:
                    numbers = self._ask(client, node, "PUBSUB SHARDNUMSUB", *names)
                    found |= {decode(name): number for name, number in _pair_up(numbers) if number}
        return found

    def went_away(self, reason: str) -> None:
        """Do nothing: the failed call has reported it, and Redis may be back since.

        :param reason: what happened.
        """

    def close(self) -> None:
        """Disconnect, and end all threads."""
        with self._lock:
            self._closing.set()
            self._has_work.set()
            placer = self._placer
        if placer is not None:
            placer.join(CLOSE_SECONDS)
        for listener in list(self._listeners.values()):
            listener.close()
        client = self._client
        if client is not None:
            self._give_up_client(client)

    # The servers

    def _connect(self) -> SharedClient:
        """Return redis-py's client of the cluster, which has asked for its servers."""
        client = self._client
        if client is not None:
            return client
        health = self._whole
        attempt = health.check()
        # With a timeout: redis-py may log, and a log handler may publish.
        if not self._connecting.acquire(timeout=TURN_SECONDS):
            raise BrokerError(f"{health.name}: other threads are trying to connect.")
        error: Exception | None = None
        try:
            client = self._client
            if client is None:
                cluster = RedisCluster(
                    startup_nodes=[ClusterNode(*node) for node in self._settings.nodes],
                    **self._settings.cluster_arguments(),
                )
                client = SharedClient(cluster, cluster.disconnect_connection_pools)
                self._client = client
        except ERRORS as caught:
            error = caught
        finally:
            self._connecting.release()
        if client is None:
            assert error is not None
            health.fail(error, attempt)
            raise BrokerError(f"{health.name}: {error}") from error
        health.succeed()
        return client

    def _give_up_client(self, client: SharedClient) -> None:
        """Drop a client; the next one begins with the servers that the URL names."""
        with self._lock:
            if self._client is client:
                self._client = None
        client.give_up()

    def _ask(self, client: SharedClient, node: Any, *command: str | bytes) -> Any:
        return self._call(client, node, lambda execute: execute(*command))

    def _call(self, client: SharedClient, node: Any, function: Callable[[Execute], T]) -> T:
        health = self._health(node.name)
        attempt = health.check()
        try:
            with client as cluster:
                # With a server named, it is sent once: there, or to where the channel is now.
                answer = function(functools.partial(cluster.execute_command, target_nodes=node))
        except ERRORS as error:
            if isinstance(error, RedisClusterException):
                # Some versions of redis-py forget servers that they could not reach.
                self._give_up_client(client)
            health.fail(error, attempt)
            raise BrokerError(f"{health.name}: {error}") from error
        health.succeed()
        if self.is_away:
            self._whole.succeed()
            self._forget_strangers(cluster)
        return answer

    def _health(self, name: str) -> BrokerHealth:
        with self._lock:
            if name not in self._healths:
                self._healths[name] = self._make_health(f"Redis at {name}", name)
            return self._healths[name]

    def _make_health(self, name: str, key: str) -> BrokerHealth:
        return BrokerHealth(
            name,
            lambda reason: self._be_gone(key, reason),
            lambda: self._be_back({key}),
            beside=None if key == WHOLE else self._whole,
        )

    def _be_gone(self, name: str, reason: str) -> None:
        self._gone.add(name)
        super().went_away(reason)

    def _be_back(self, names: set[str]) -> None:
        self._gone -= names
        if not self._gone:
            self.came_back()

    def _forget_strangers(self, cluster: Any) -> None:
        """Forget what is known of servers that have no channels any more."""
        names = {node.name for node in cluster.get_primaries()}
        with self._lock:
            for name in self._healths.keys() - names:
                del self._healths[name]
        self._be_back(self._gone - names - {WHOLE})

    # Placing channels

    def _leave(self, channel: str, wish: BrokerWish | None) -> None:
        with self._lock:
            replaced = self._wanted.pop(channel, None)
            if wish is not None:
                self._wanted[channel] = wish
                self._start()
            self._changed[channel] = None
            self._has_work.set()
        if replaced is not None:
            replaced.set()

    def _start(self) -> None:
        if self._placer is None and not self._closing.is_set():
            self._placer = threading.Thread(
                target=self._place_all, name="flask_ws.Redis-placer", daemon=True
            )
            self._placer.start()

    def _misplace(self, channel: str | None) -> None:
        """Have a channel's server found again; with ``None``, those of all."""
        with self._lock:
            self._is_outdated = True
            if channel is not None:
                self._misplaced[channel] = None
            self._has_work.set()
        # What has been published since its server was found may have gone elsewhere.
        self.interrupted(channel)

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
                client = self._connect()
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
                self._give_up_client(client)
            with self._lock:
                self._is_outdated = True
                self._misplaced = {**misplaced, **self._misplaced}
            raise
        used = set(map(id, self._placed.values()))
        for name, listener in list(self._listeners.items()):
            if id(listener) not in used:
                del self._listeners[name]
                listener.close()
        self._forget_strangers(cluster)

    def _give_up(self, changed: dict[str, None], error: Exception) -> None:
        """Release those who wait, and try again later."""
        # What :meth:`_connect` raises has been counted; twice, the delays would grow too fast.
        if not isinstance(error, BrokerError):
            self._whole.fail_to_listen(error)
        with self._lock:
            self._is_outdated = True
            self._changed = {**changed, **self._changed}
            wishes = list(self._wanted.values())
        for wish in wishes:
            wish.set()

    def _settle(self, wishes: list[BrokerWish | None]) -> None:
        """Report that the cluster was found, once the channels wanted meanwhile are confirmed."""
        if self._whole.is_gone:
            for wish in wishes:
                if wish is not None:
                    wish.wait()
            self._whole.succeed(listener=True)

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
                self._deliver,
                self._health(node.name),
                sharded=True,
                on_misplaced=self._misplace,
                on_loss=lambda: self._misplace(None),
            )
        return listener


def _pair_up(numbers: Any) -> list[tuple[bytes, int]]:
    """Read pairs of names and numbers, which some versions of redis-py leave in one list."""
    if numbers and not isinstance(numbers[0], (tuple, list)):
        return list(zip(numbers[::2], numbers[1::2], strict=True))
    return [(name, number) for name, number in numbers]
