"""flask-ws's broker on PostgreSQL.

- ``broker``: publishes, on connections of ``pool``. ``listener``: the connection on which
  ``notifications`` arrive. ``link``: a connection on which nothing is waited for without a limit.
- ``channels``, ``history``, ``presence``, ``used``: statements, for what is kept in ``tables``.
- ``survey``: asks each process which channels it listens to.
- ``settings``: what a URL says.
"""

from __future__ import annotations

from flask_ws import Broker, ConfigurationError, hookimpl

__all__ = ["flask_ws_open_broker"]

#: The second is libpq's other name for it; the others are SQLAlchemy's.
SCHEMES = ("postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2")

NO_LIBPQ = (
    "SOCK_BROKER_URL: psycopg finds no libpq, the library of PostgreSQL's clients. Install the "
    "system's package, such as Debian's libpq5, or pip install \"psycopg[binary]\"."
)


@hookimpl
def flask_ws_open_broker(url: str) -> Broker | None:
    """Open the broker for a URL of PostgreSQL's."""
    if url.partition(":")[0].lower() not in SCHEMES:
        return None
    # Not before it is asked for: a process that uses another broker need not import psycopg.
    try:
        from psycopg import pq  # noqa: F401
    except ImportError:
        raise ConfigurationError(NO_LIBPQ) from None
    from .broker import PostgresBroker
    from .settings import Settings

    return PostgresBroker(Settings.from_url(url))
