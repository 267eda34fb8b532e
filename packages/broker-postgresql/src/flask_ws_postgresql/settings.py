"""Settings: what a URL says about a PostgreSQL, and the defaults."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from psycopg import pq
from psycopg.conninfo import make_conninfo

from flask_ws import ConfigurationError

__all__ = ["Place", "Settings"]

DEFAULT_PORT = 5432

NOT_A_URL = (
    "SOCK_BROKER_URL must have the form "
    "postgresql://user:password@host:port/database?option=value. In a user's name, a password and "
    "an option, write %2F for /, %3F for ?, %23 for #, and %40 for @."
)

#: A URL's part after the scheme: authority, path and query.
FORM = re.compile(r"([^/?#]*)(/[^?#@]*)?(?:\?([^#@]*))?")
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^:\[\]]*)(?::(\d{1,5})?)?")

#: What may be no part of any text.
SECRETS = ("password", "sslpassword", "oauth_client_secret")


class Place(NamedTuple):
    """Where a server may be."""

    #: A name, an address, or the folder of a Unix socket; empty for libpq's default.
    host: str
    port: str

    def __str__(self) -> str:
        if not self.host or self.host.startswith(("/", "@")):
            return self.host or "its default place"
        return f"{self.host}:{self.port or DEFAULT_PORT}"


@dataclass(frozen=True)
class Settings:
    """How to reach a PostgreSQL."""

    #: What it is and where, for logs and errors.
    name: str
    #: Where it may be; tried in this order.
    places: tuple[Place, ...]
    #: libpq's parameters, without those that are secret.
    parameters: dict[str, str]
    #: Returns those that are secret.
    secrets: Callable[[], dict[str, str]] = field(repr=False)
    #: Seconds for a connection to be made.
    connect_timeout: float = 1.0
    #: Seconds for an answer: the publisher waits for it.
    answer_timeout: float = 2.0
    #: Seconds of silence after which the server is asked whether it is still there.
    health_check_interval: float = 10.0
    #: Connections on which a process publishes, at most.
    max_connections: int = 8
    #: Whether the tables are made if they are missing.
    create_tables: bool = False

    @classmethod
    def from_url(cls, url: str) -> Settings:
        """Read a URL in libpq's form.

        :param url: what libpq takes, and :attr:`connect_timeout` and the other attributes after
            it as further parameters.
        :raises ConfigurationError: the URL makes no sense; the message has no password in it.
        """
        rest = url.partition("://")[2]
        form = FORM.fullmatch(rest)
        if form is None or "://" not in url:
            # What is wrong with it may be a part of the password.
            raise ConfigurationError(NOT_A_URL)
        authority, path, query = (part or "" for part in form.groups())
        user, _, hosts = authority.rpartition("@")
        parameters = {"client_encoding": "UTF8", "fallback_application_name": "flask-ws"}
        name, _, password = user.partition(":")
        found = {"user": name, "password": password, "dbname": path[1:]}
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        found |= {name: value for name, _, value in pairs}
        parameters |= {name: unquote(value) for name, value in found.items() if value}
        places = _read_places(hosts, parameters)
        own = {
            "connect_timeout": _number(parameters, "connect_timeout"),
            "answer_timeout": _number(parameters, "answer_timeout"),
            "health_check_interval": _number(parameters, "health_check_interval"),
            "max_connections": _number(parameters, "max_connections", whole=True),
            "create_tables": _flag(parameters, "create_tables"),
        }
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        for name in parameters:
            if name not in known:
                raise ConfigurationError(
                    f"SOCK_BROKER_URL: neither flask-ws nor libpq knows the parameter {name!r}."
                )
        secrets = {name: parameters.pop(name) for name in SECRETS if name in parameters}
        return cls(
            "PostgreSQL at " + ",".join(map(str, places)),
            places,
            parameters,
            lambda: secrets,
            **{name: value for name, value in own.items() if value is not None},  # type: ignore[arg-type]
        )

    def conninfos(self) -> Iterator[Callable[[], bytes]]:
        """Return, for each address of each place, what makes a connection string.

        Names are resolved here, by what may be a green :mod:`socket`, and not by libpq.

        :raises OSError: a name is not known.
        """
        for host, port in self.places:
            where = {"host": host, "port": port} if port else {"host": host}
            if not host:
                yield lambda where=where: self._conninfo({"port": where.get("port", "")})  # type: ignore[misc]
            elif host.startswith(("/", "@")):
                yield lambda where=where: self._conninfo(where)  # type: ignore[misc]
            else:
                found = socket.getaddrinfo(host, port or DEFAULT_PORT, type=socket.SOCK_STREAM)
                for address in dict.fromkeys(str(entry[4][0]) for entry in found):
                    there = {**where, "hostaddr": address}
                    yield lambda there=there: self._conninfo(there)  # type: ignore[misc]

    def _conninfo(self, where: dict[str, str]) -> bytes:
        arguments = {name: value for name, value in where.items() if value}
        return make_conninfo("", **{**self.parameters, **self.secrets(), **arguments}).encode()


def _read_places(hosts: str, parameters: dict[str, str]) -> tuple[Place, ...]:
    """Read where the servers are: in the authority of a URL, or in its parameters."""
    places = []
    for part in hosts.split(","):
        form = HOST.fullmatch(part)
        if form is None or int(form[2] or 0) > 65535:
            raise ConfigurationError(NOT_A_URL)
        places.append(Place(unquote(form[1]).strip("[]"), form[2] or ""))
    given = parameters.pop("host", None), parameters.pop("port", None)
    if given != (None, None):
        names = given[0].split(",") if given[0] else [place.host for place in places]
        ports = (given[1] or ",".join(place.port for place in places)).split(",")
        if len(ports) != len(names):
            ports = ports[:1] * len(names)
        if not all(port.isdecimal() or not port for port in ports):
            raise ConfigurationError(NOT_A_URL)
        places = [Place(*pair) for pair in zip(names, ports, strict=True)]
    return tuple(places)


def _number(parameters: dict[str, str], name: str, *, whole: bool = False) -> float | None:
    text = parameters.pop(name, None)
    if text is None:
        return None
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = -1
    if not 0 < number < 10**6:
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(f"SOCK_BROKER_URL: {name} must be {kind} greater than 0.")
    return number


def _flag(parameters: dict[str, str], name: str) -> bool | None:
    text = parameters.pop(name, None)
    if text is None:
        return None
    if text not in ("true", "false"):
        raise ConfigurationError(f"SOCK_BROKER_URL: {name} must be true or false.")
    return text == "true"
