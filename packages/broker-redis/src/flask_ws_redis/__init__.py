"""flask-ws's broker on Redis or Valkey: one server, or a cluster.

- ``server``: the broker on one server; ``cluster``: on a cluster. ``shared``: a client of theirs.
- ``topology``: the servers of a cluster; ``placing``: which of them is listened to for what.
- ``listener``: the connection on which messages arrive. ``clock``: a server's.
- ``history``, ``presence``: what is kept there, under ``keys``, by ``scripts``.
- ``settings``: what a URL says.
"""

from __future__ import annotations

from flask_ws import Broker, hookimpl

__all__ = ["flask_ws_open_broker"]

SERVER_SCHEMES = ("redis", "rediss", "unix")
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")


@hookimpl
def flask_ws_open_broker(url: str) -> Broker | None:
    """Open the broker for a Redis URL."""
    scheme = url.partition(":")[0].lower()
    if scheme not in SERVER_SCHEMES + CLUSTER_SCHEMES:
        return None
    # Not before it is asked for: a process that uses another broker need not import redis.
    from .settings import Settings

    settings = Settings.from_url(url)
    if scheme in CLUSTER_SCHEMES:
        from .cluster import ClusterBroker

        return ClusterBroker(settings)
    from .server import ServerBroker

    return ServerBroker(settings)
