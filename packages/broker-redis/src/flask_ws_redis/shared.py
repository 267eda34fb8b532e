"""SharedClient: a client of redis-py's that may be given up while other threads use it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flask_ws import BrokerError

__all__ = ["SharedClient"]


class SharedClient:
    """A client of redis-py's, which any thread may use, in a ``with`` statement.

    redis-py closes a connection even while another thread uses it, which may then raise anything.
    So the connections of a client that is given up are closed by its last user.

    :param client: the client.
    :param disconnect: closes its connections; it makes new ones if it is used again.
    """

    def __init__(self, client: Any, disconnect: Callable[[], object]) -> None:
        self._client = client
        self._disconnect = disconnect
        self._lock = threading.Lock()
        self._users = 0
        self._is_given_up = False
        self._is_disconnecting = False

    def __enter__(self) -> Any:
        with self._lock:
            if self._is_disconnecting:
                raise BrokerError("This connection to Redis is being closed.")
            self._users += 1
        return self._client

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
        self._disconnect_if_unused()

    def give_up(self) -> None:
        """Have the connections closed as soon as nobody uses them."""
        self._is_given_up = True
        self._disconnect_if_unused()

    def _disconnect_if_unused(self) -> None:
        with self._lock:
            if not self._is_given_up or self._users or self._is_disconnecting:
                return
            # New users are refused from here on; redis-py's code runs under no lock.
            self._is_disconnecting = True
        try:
            self._disconnect()
        finally:
            self._is_disconnecting = False
