"""How many connections a client has on a route, and how fast it may send.

One table for all threads of a process. It holds the clients that are connected, and a limited
number of those that have sent too much a moment ago: so many addresses cannot fill the memory.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Hashable
from random import SystemRandom

import flask
from werkzeug.exceptions import TooManyRequests

from ..options import Options
from ..process import after_fork
from ..rate import Bucket

__all__ = ["Client", "Clients", "clients", "find_key"]

#: Clients without a connection that are remembered because of what they have sent.
MOST_GONE = 10_000
#: An IPv6 network that one client is usually given; it may choose any address in it.
IPV6_PREFIX = 64
#: Not the app's generator, which it may have seeded.
chance = SystemRandom()
#: Seconds after which a client with too many connections may try again, at most.
RETRY_AFTER = 10


class Client:
    """A client of a route.

    :param key: the route, and what tells clients apart.
    """

    __slots__ = ("bucket", "key", "open")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        #: The connections that it has.
        self.open = 0
        #: What it may send; ``None`` for no limit.
        self.bucket: Bucket | None = None


class Clients:
    """The clients of a process that a limit concerns. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._here: dict[Hashable, Client] = {}
        # The first has been here longest ago.
        self._gone: OrderedDict[Hashable, Client] = OrderedDict()

    def __len__(self) -> int:
        return len(self._here) + len(self._gone)

    def enter(self, key: Hashable, options: Options) -> Client:
        """Count a connection that is to be opened; :meth:`leave` must follow.

        :raises TooManyRequests: the client has as many as it may.
        """
        limit = options.max_per_client
        with self._lock:
            client = self._here.get(key) or self._gone.pop(key, None) or Client(key)
            is_full = limit is not None and client.open >= limit
            if not is_full:
                self._here[key] = client
                client.open += 1
                if options.rate is not None and client.bucket is None:
                    client.bucket = Bucket(options.rate, options.rate_burst)
        if is_full:
            raise TooMany(
                f"It has as many connections to this route as it may, {limit} "
                "(SOCK_MAX_PER_CLIENT)."
            )
        return client

    def leave(self, client: Client) -> None:
        """Count that a connection has ended, or was not opened after all."""
        with self._lock:
            client.open -= 1
            if client.open:
                return
            del self._here[client.key]
            # Else it would connect again to send more.
            if client.bucket is not None and not client.bucket.is_full:
                self._gone[client.key] = client
                while len(self._gone) > MOST_GONE:
                    self._gone.popitem(last=False)


class TooMany(TooManyRequests):
    """429: the client has as many connections as it may.

    :param why: for the log only.
    """

    description = "You have too many connections. Close one, or try again later."

    def __init__(self, why: str) -> None:
        # Not the same for all: else they come back together.
        super().__init__(retry_after=chance.randint(1, RETRY_AFTER))
        self.why = why


def find_key(options: Options) -> str | None:
    """Return what tells the client of the current request from others; ``None`` for no limits."""
    if options.client_key is not None:
        return options.client_key()
    address = flask.request.remote_addr
    if not address:
        # A Unix socket: all come from this machine.
        return None
    try:
        if ipaddress.ip_address(address).version == 6:
            plain = address.partition("%")[0]
            return str(ipaddress.ip_network(f"{plain}/{IPV6_PREFIX}", strict=False))
    except ValueError:
        # What a proxy has written is no address.
        pass
    return address


#: Those of this process.
clients = Clients()

after_fork(clients.__init__)  # type: ignore[misc]
