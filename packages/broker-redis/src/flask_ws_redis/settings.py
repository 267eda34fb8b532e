"""Settings: what a URL says about a Redis, and the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.connection import parse_url, to_bool
from redis.credentials import UsernamePasswordCredentialProvider

from flask_ws import ConfigurationError

__all__ = ["Settings"]

CLUSTER = "+cluster://"
DEFAULT_PORT = 6379

#: Seconds for a connection to be made, and for an answer: the publisher waits for it.
CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
#: Seconds of silence after which the server is asked whether it is still there.
HEALTH_CHECK_SECONDS = 10
#: Connections on which a process publishes, at most.
PUBLISHING_CONNECTIONS = 8

NOT_A_URL = (
    "SOCK_BROKER_URL must have the form redis://user:password@host:port/database?option=value. "
    "In a user's name, a password and an option, write %2F for /, %3F for ?, %23 for #, and %40 "
    "for @."
)

#: What a URL cannot set. Messages are bytes; subscriptions are told apart from answers as
#: RESP 2 does it; and a retried publication might arrive twice.
FORCED = {"decode_responses": False, "protocol": 2}
REFUSED = ("decode_responses", "protocol", "retry_on_timeout", "retry_on_error")


@dataclass(frozen=True)
class Settings:
    """How to reach a Redis."""

    #: Where it is, as logs and errors name it: without a password.
    name: str
    #: The servers to ask for a cluster's others; for a single server, none.
    nodes: tuple[tuple[str, int], ...]
    #: redis-py's class of connections.
    connection_class: Any
    #: Its arguments; a password is in none of them, but the provider of credentials has it.
    arguments: dict[str, Any] = field(repr=False)
    #: How many connections may publish at a time.
    max_connections: int

    @classmethod
    def from_url(cls, url: str) -> Settings:
        """Read a URL in redis-py's forms, or one of a cluster.

        :param url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py has them; for a
            cluster, ``redis+cluster://`` or ``rediss+cluster://`` with one of its servers, or
            several between commas.
        :raises ConfigurationError: the URL makes no sense; the message has no password in it.
        """
        is_cluster = CLUSTER in url
        try:
            nodes, single = _split_nodes(url) if is_cluster else ((), url)
            _check_form(single)
            arguments = parse_url(single)
        except _NotAUrl:
            # What is wrong with it may be a part of the password.
            raise ConfigurationError(NOT_A_URL) from None
        except ValueError as error:
            # It is about the options, and names one.
            raise ConfigurationError(f"SOCK_BROKER_URL: {error}") from None
        for name in REFUSED:
            if name in arguments:
                raise ConfigurationError(f"SOCK_BROKER_URL: {name} cannot be set.")
        if is_cluster and arguments.pop("db", 0):
            raise ConfigurationError("SOCK_BROKER_URL: a cluster has no databases.")
        connection_class = arguments.pop("connection_class", redis.Connection)
        max_connections = arguments.pop("max_connections", PUBLISHING_CONNECTIONS)
        defaults: dict[str, Any] = {
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_timeout": ANSWER_SECONDS,
            "health_check_interval": HEALTH_CHECK_SECONDS,
        }
        if connection_class is redis.UnixDomainSocketConnection:
            del defaults["socket_connect_timeout"]
            name = arguments.get("path", "")
        else:
            defaults["socket_keepalive"] = True
            host, port = arguments.get("host", "localhost"), arguments.get("port", DEFAULT_PORT)
            name = ",".join(f"{h}:{p}" for h, p in nodes) or f"{host}:{port}"
        if connection_class is redis.SSLConnection:
            _check_hostnames(arguments)
        user, password = arguments.pop("username", None), arguments.pop("password", None)
        if user is not None or password is not None:
            # redis-py shows its arguments in the repr of its objects.
            provider = UsernamePasswordCredentialProvider(user, password)
            arguments["credential_provider"] = provider
        arguments = defaults | arguments | FORCED
        try:
            # This does not connect yet, but raises if it does not know an option.
            connection_class(**arguments)
        except (TypeError, ValueError, redis.RedisError) as error:
            raise ConfigurationError(f"SOCK_BROKER_URL: {error}") from None
        return cls(name, nodes, connection_class, arguments, max_connections)

    def make_connection(self, **arguments: Any) -> Any:
        """Make a connection object, which does not connect yet.

        :param arguments: those that differ from the URL's: a node's host and port.
        """
        return self.connection_class(**{**self.arguments, **arguments})

    def cluster_arguments(self) -> dict[str, Any]:
        """Return the arguments of :class:`redis.cluster.RedisCluster`."""
        arguments = {k: v for k, v in self.arguments.items() if k not in ("host", "port")}
        return arguments | {"ssl": True} if self.is_tls else arguments

    @property
    def answer_timeout(self) -> float:
        """Seconds that an answer is waited for."""
        return float(self.arguments["socket_timeout"] or ANSWER_SECONDS)

    @property
    def full_name(self) -> str:
        """What it is and where, for logs and errors."""
        return f"Redis at {self.name}"

    @property
    def is_tls(self) -> bool:
        """Whether TLS is used."""
        return self.connection_class is redis.SSLConnection


class _NotAUrl(ValueError):
    """A URL cannot be parsed."""


def _check_form(url: str) -> None:
    """Check that a URL can be read in one way only.

    :raises _NotAUrl: it cannot.
    """
    scheme, colon, _ = url.partition("://")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _NotAUrl from None
    place = parts.netloc.rpartition("@")[2]
    rest = parts.query + parts.fragment
    # A Unix socket's URL has no host: what looks like one is the beginning of a password.
    is_clear = not place if scheme.lower() == "unix" else "@" not in parts.path
    if not colon or not is_clear or "@" in rest:
        raise _NotAUrl


def _split_nodes(url: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Find the servers that the URL of a cluster names, and its form for one of them."""
    scheme, _, rest = url.partition(CLUSTER)
    end = min(rest.find(mark) % (len(rest) + 1) for mark in "/?")
    authority, tail = rest[:end], rest[end:]
    user, at, hosts = authority.rpartition("@")
    nodes = []
    for host in hosts.split(","):
        _check_form(f"redis://{host}")
        parsed = parse_url(f"redis://{host}")
        nodes.append((parsed.get("host", "localhost"), parsed.get("port", DEFAULT_PORT)))
    return tuple(nodes), f"{scheme}://{user}{at}{hosts.split(',')[0]}{tail}"


def _check_hostnames(arguments: dict[str, Any]) -> None:
    """Have names in certificates checked, which redis-py does by itself since 6.0 only."""
    check = arguments.get("ssl_check_hostname", arguments.get("ssl_cert_reqs") != "none")
    arguments["ssl_check_hostname"] = to_bool(check) if isinstance(check, str) else check
