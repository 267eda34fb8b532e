"""Topology: the servers of a cluster, which channels they have, and whether they can be reached."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from flask_ws import BrokerError, BrokerHealth

from .clock import ServerClock
from .scripts import Execute
from .server import TURN_SECONDS
from .settings import Settings
from .shared import SharedClient

__all__ = ["ERRORS", "Topology"]

T = TypeVar("T")

#: The cluster's own name, among the names of its servers.
WHOLE = ""

#: What redis-py raises for a cluster that cannot be reached, or is incomplete.
ERRORS = (RedisError, RedisClusterException, OSError)


class Topology:
    """The servers of a cluster, as far as they are known; any thread may ask them.

    :param settings: how to reach some of them.
    :param went_away: called with the reason when one of them is gone.
    :param came_back: called when all can be reached again.
    """

    def __init__(
        self,
        settings: Settings,
        went_away: Callable[[str], object],
        came_back: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._went_away = went_away
        self._came_back = came_back
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._client: SharedClient | None = None
        #: Whether the servers can be found; what is known of each is kept by its name.
        self.whole = self._make_health(settings.full_name, WHOLE)
        self._healths: dict[str, BrokerHealth] = {}
        self._clocks: dict[str, ServerClock] = {}
        self._gone: set[str] = set()

    def find(self, channel: str) -> tuple[SharedClient, Any]:
        """Find the server of a channel.

        :return: the client of the cluster, and the server: what :meth:`call` takes.
        :raises BrokerError: the cluster cannot be reached.
        """
        client = self.connect()
        attempt = self.whole.check()
        try:
            with client as cluster:
                return client, cluster.get_node_from_key(channel)
        except ERRORS as error:
            self.whole.fail(error, attempt)
            raise BrokerError(f"{self._settings.full_name}: {error}") from error

    def connect(self) -> SharedClient:
        """Return redis-py's client of the cluster, which has asked for its servers.

        :raises BrokerError: none of them can be reached.
        """
        client = self._client
        if client is not None:
            return client
        health = self.whole
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

    def give_up(self, client: SharedClient) -> None:
        """Drop a client; the next one begins with the servers that the URL names."""
        with self._lock:
            if self._client is client:
                self._client = None
        client.give_up()

    def call(self, client: SharedClient, node: Any, function: Callable[[Execute], T]) -> T:
        """Have something done at a server.

        :param function: called with what sends the server a command.
        :return: what it returns.
        :raises BrokerError: the server cannot be reached.
        """
        health = self.health(node.name)
        attempt = health.check()
        try:
            with client as cluster:
                # With a server named, it is sent once: there, or to where the channel is now.
                answer = function(functools.partial(cluster.execute_command, target_nodes=node))
        except ERRORS as error:
            if isinstance(error, RedisClusterException):
                # Some versions of redis-py forget servers that they could not reach.
                self.give_up(client)
            health.fail(error, attempt)
            raise BrokerError(f"{health.name}: {error}") from error
        health.succeed()
        if self._gone:
            self.whole.succeed()
            self.forget_strangers(cluster)
        return answer

    def health(self, name: str) -> BrokerHealth:
        """Return what is known of whether a server can be reached."""
        with self._lock:
            if name not in self._healths:
                self._healths[name] = self._make_health(f"Redis at {name}", name)
            return self._healths[name]

    def clock(self, name: str) -> ServerClock:
        """Return what is known of a server's clock."""
        clock = self._clocks.get(name)
        if clock is None:
            clock = self._clocks.setdefault(name, ServerClock(self._settings.answer_timeout))
        return clock

    def _make_health(self, name: str, key: str) -> BrokerHealth:
        return BrokerHealth(
            name,
            lambda reason: self._be_gone(key, reason),
            lambda: self._be_back({key}),
            beside=None if key == WHOLE else self.whole,
        )

    def _be_gone(self, name: str, reason: str) -> None:
        self._gone.add(name)
        self._went_away(reason)

    def _be_back(self, names: set[str]) -> None:
        self._gone -= names
        if not self._gone:
            self._came_back()

    def forget_strangers(self, cluster: Any) -> None:
        """Forget what is known of servers that have no channels any more."""
        names = {node.name for node in cluster.get_primaries()}
        with self._lock:
            for name in self._healths.keys() - names:
                del self._healths[name]
                self._clocks.pop(name, None)
        self._be_back(self._gone - names - {WHOLE})

    def close(self) -> None:
        """Disconnect."""
        client = self._client
        if client is not None:
            self.give_up(client)
