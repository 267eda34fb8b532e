"""Options: how connections behave, from ``app.config`` and from each route."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .exceptions import ConfigurationError
from .rate import parse_rate
from .system import TIMEOUT_MAX

__all__ = ["Options"]

PREFIX = "SOCK_"

#: flask-sock's dictionary of options; its names that mean the same here.
LEGACY_KEY = "SOCK_SERVER_OPTIONS"
LEGACY_NAMES = frozenset({"ping_interval", "max_message_size", "subprotocols"})
#: Options of flask-sock that choose its internals, which flask-ws does not have.
LEGACY_IGNORED = frozenset({"receive_bytes", "thread_class", "event_class", "selector_class"})


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings of a WebSocket route.

    Each has a name in ``app.config``, ``SOCK_`` and the name in upper case, which holds for every
    route, and may be given to :meth:`Sock.route <flask_ws.Sock.route>` in lower case for one. The
    last ten concern the whole process and are set in ``app.config`` only.
    """

    #: Seconds without data from the peer after which it is sent a ping; ``None`` sends none.
    ping_interval: float | None = 20.0
    #: Seconds that the peer has to answer a ping before the connection counts as lost (1006).
    ping_timeout: float | None = 20.0
    #: Seconds that a closing handshake may take before the connection is cut off.
    close_timeout: float = 5.0
    #: The largest message accepted, in bytes as received and after inflation; a larger one is
    #: answered with close code 1009. ``None`` lifts the limit.
    max_message_size: int | None = 2**20
    #: Seconds from the beginning of a message to its end; a slower one is answered with close
    #: code 1008. ``None`` waits for as long as the peer lives.
    message_timeout: float | None = 120.0
    #: Messages that wait for a busy handler before no more are read (TCP backpressure).
    max_queue: int = 16
    #: Bytes of memory that these may take; the message that exceeds them is the last one.
    max_queue_bytes: int = 2**20
    #: Whether permessage-deflate (RFC 7692) is negotiated with peers that offer it.
    compression: bool = True
    #: The subprotocols that the route speaks; the first of the client's that is here is chosen.
    subprotocols: tuple[str, ...] = ()
    #: Origins that browsers may connect from: ``None`` for the same origin only, ``"*"`` for any,
    #: or a list such as ``["https://example.com"]``.
    allowed_origins: str | tuple[str, ...] | None = None
    #: Bytes that may wait for a slow reader before its connection is closed (1013).
    max_outbox: int = 2**20
    #: Channels that a connection may be subscribed to; one more closes it (1008).
    max_subscriptions: int = 256
    #: Channels of which a connection may be a member (``ws.join()``); one more closes it (1008).
    presence_max_joins: int = 256
    #: Bytes of JSON that the ``info`` of a member may have.
    presence_max_info: int = 1024
    #: Bytes that the URL and the headers of a handshake may have; past it, it gets 431.
    max_handshake_size: int = 2**16
    #: Connections that a client may have on a route, in a process; one more gets 429.
    max_per_client: int | None = None
    #: How fast a client may send to a route, on all its connections in a process, as ``"20/s"`` or
    #: ``"100/min"``; or a number of messages a second. ``None`` is no limit.
    rate: float | None = None
    #: Messages that it may send at once; by default those of a second.
    rate_burst: int | None = None
    #: What becomes of more: ``"slow"`` lets the client wait, and an event view take a thread;
    #: ``"drop"`` discards them; ``"close"`` closes the connection with 1008.
    rate_action: str = "slow"
    #: A function that returns what tells the client of the current request from others, such as
    #: the user's id, or ``None`` not to limit it. By default it is the address, of IPv6 the /64.
    client_key: Callable[[], str | None] | None = None
    #: Whether handlers run outside the server's workers, where the server has few of them.
    detach: bool = True
    #: Whether an async handler is cancelled that goes on for ``close_timeout`` seconds after its
    #: connection has been closed.
    cancel_on_close: bool = True
    #: Handlers that may run on threads of flask-ws's own; past it a handshake gets 503.
    max_threads: int = 1000
    #: WebSocket connections that a process holds; past it a handshake gets 503.
    max_connections: int = 10_000
    #: Bytes that a process holds for its peers: what has come of messages, messages that wait for
    #: handlers, what waits for slow readers, and headers. Near it the connections that hold most
    #: are closed (1009, 1013). ``None`` lifts the limit.
    max_buffered: int | None = 2**28
    #: Threads that serve the event views of a process.
    workers: int = 2
    #: Seconds over which a stopping process spreads its close frames (1001), so that its clients do
    #: not all come back at once; meanwhile handshakes get 503. With 0, all are sent at once.
    drain: float = 0.0
    #: Handshakes that a process admits a second; others get 503. ``None`` admits all.
    handshake_rate: float | None = None
    #: Seconds after the end of a connection for which it stays a member of its channels: one that
    #: comes back meanwhile, as after a refresh of the page, has not left.
    presence_grace: float = 3.0
    #: Seconds within which the members of a process are dropped that was killed, or is cut off from
    #: the broker.
    presence_lease: float = 15.0
    #: Seconds that a callback may hold the loop of the async handlers before a warning says where
    #: it stands; ``None`` looks at nothing.
    blocked_after: float | None = 0.5
    #: Whether the loop of the async handlers is uvloop's, where that is installed.
    uvloop: bool = True

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Options:
        """Read the options from ``app.config``.

        :raises ConfigurationError: a ``SOCK_`` name is unknown, or a value is wrong.
        """
        values = _legacy(config.get(LEGACY_KEY))
        for key, value in config.items():
            if not key.startswith(PREFIX) or key == LEGACY_KEY or key in FOREIGN_KEYS:
                continue
            name = key[len(PREFIX) :].lower()
            if name not in NAMES:
                raise ConfigurationError(unknown(key, [PREFIX + n.upper() for n in NAMES]))
            values[name] = value
        return cls(
            **{name: _checked(name, value, PREFIX + name.upper()) for name, value in values.items()}
        )

    @property
    def slows_clients(self) -> bool:
        """Whether clients are to wait that send too fast."""
        return self.rate is not None and self.rate_action == "slow"

    def replace(self, changes: Mapping[str, Any]) -> Options:
        """Return these options with a route's own in place of some of them.

        :raises ConfigurationError: a name is unknown or concerns the whole process, or a value
            is wrong.
        """
        return dataclasses.replace(self, **check_route_options(changes)) if changes else self


#: The names of all options.
NAMES = tuple(field.name for field in dataclasses.fields(Options))
#: Those that concern the process, not a route.
PROCESS_NAMES = frozenset(
    {
        "max_threads",
        "max_connections",
        "max_buffered",
        "workers",
        "drain",
        "handshake_rate",
        "presence_grace",
        "presence_lease",
        "blocked_after",
        "uvloop",
    }
)
#: Those that a route may set.
ROUTE_NAMES = frozenset(NAMES) - PROCESS_NAMES
#: ``SOCK_`` keys that belong to other parts of flask-ws.
FOREIGN_KEYS = frozenset({"SOCK_BROKER_URL", "SOCK_BROKER_PREFIX", "SOCK_HISTORY"})


def check_route_options(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a route's options, checked.

    :raises ConfigurationError: a name is unknown or concerns the whole process, or a value is
        wrong.
    """
    for name in changes:
        if name in PROCESS_NAMES:
            key = PREFIX + name.upper()
            raise ConfigurationError(
                f"{name!r} concerns the whole process: set app.config[{key!r}], not a route."
            )
        if name not in ROUTE_NAMES:
            raise ConfigurationError(unknown(name, sorted(ROUTE_NAMES)))
    return {name: _checked(name, value, name) for name, value in changes.items()}


def unknown(name: str, known: Collection[str], shown: Collection[str] | None = None) -> str:
    """Say that a name is unknown, and which one may be meant.

    :param known: the names that could be meant.
    :param shown: those to show where none is like it; all of them by default.
    """
    # A name of app.config's on a route, or a route's in app.config, is like its counterpart.
    plain = {_plain(other): other for other in known}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.5)
    if close:
        hint = f"did you mean {plain[close[0]]}?"
    else:
        hint = f"there are {', '.join(sorted(known if shown is None else shown))}."
    return f"flask-ws knows no option {name!r}: {hint}"


def _plain(name: str) -> str:
    return name.upper().removeprefix(PREFIX).lower()


def _legacy(options: object) -> dict[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigurationError(f"{LEGACY_KEY} must be a dictionary, not {options!r}.")
    for name in options:
        if name not in LEGACY_NAMES | LEGACY_IGNORED:
            raise ConfigurationError(f"{LEGACY_KEY}: " + unknown(name, LEGACY_NAMES))
    return {name: options[name] for name in LEGACY_NAMES if name in options}


def _checked(name: str, value: Any, shown: str) -> Any:
    check, wanted = CHECKS[name]
    checked = check(value)
    if checked is _WRONG:
        raise ConfigurationError(f"{shown} must be {wanted}, not {value!r}.")
    return checked


_WRONG = object()


def _number(minimum: float, *, strict: bool, optional: bool) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return _WRONG
        return value if value > minimum or (value == minimum and not strict) else _WRONG

    return check


def _seconds(
    minimum: float, *, strict: bool = False, optional: bool = False
) -> Callable[[Any], Any]:
    number = _number(minimum, strict=strict, optional=optional)

    def check(value: Any) -> Any:
        seconds = number(value)
        # Also an infinite one, which no lock could wait for.
        return seconds if seconds is None or seconds is _WRONG else min(seconds, TIMEOUT_MAX)

    return check


def _count(minimum: int, *, optional: bool = False) -> Callable[[Any], Any]:
    number = _number(minimum, strict=False, optional=optional)
    return lambda value: _WRONG if isinstance(value, float) else number(value)


def _rate(value: Any) -> Any:
    if isinstance(value, str):
        return parse_rate(value) or _WRONG
    return _number(0, strict=True, optional=True)(value)


def _function(value: Any) -> Any:
    return value if value is None or callable(value) else _WRONG


def _boolean(value: Any) -> Any:
    return value if isinstance(value, bool) else _WRONG


def _names(value: Any) -> Any:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping) or not isinstance(value, Collection):
        return _WRONG
    return tuple(value) if all(isinstance(name, str) and name for name in value) else _WRONG


def _origins(value: Any) -> Any:
    if value is None or value == "*":
        return value
    origins = _names(value)
    # A pattern would be compared as it is, and no browser sends such an origin.
    if origins is _WRONG or not all(
        ("://" in origin and "*" not in origin) or origin == "null" for origin in origins
    ):
        return _WRONG
    return origins


Check = tuple[Callable[[Any], Any], str]

_FLAG: Check = (_boolean, "True or False")
_NUMBER: Check = (_count(1), "a whole number of at least 1")
_NUMBER_OR_NONE: Check = (_count(1, optional=True), "a whole number of at least 1, or None")
_BYTES: Check = (_count(1), "a number of bytes of at least 1")
_BYTES_OR_NONE: Check = (_count(1, optional=True), "a number of bytes of at least 1, or None")
_SECONDS: Check = (_seconds(0), "a number of seconds of at least 0")
_SECONDS_OR_NONE: Check = (
    _seconds(0, strict=True, optional=True),
    "a number of seconds above 0, or None",
)

#: What each option is checked by, and in words what it may be.
CHECKS: dict[str, Check] = {
    "ping_interval": _SECONDS_OR_NONE,
    "ping_timeout": _SECONDS_OR_NONE,
    "close_timeout": (_seconds(0, strict=True), "a number of seconds above 0"),
    "max_message_size": _BYTES_OR_NONE,
    "message_timeout": _SECONDS_OR_NONE,
    "max_queue": _NUMBER,
    "max_queue_bytes": _BYTES,
    "compression": _FLAG,
    "subprotocols": (_names, "a list of names"),
    "allowed_origins": (
        _origins,
        'None, "*", or a list of origins such as "https://example.com"',
    ),
    "max_outbox": _BYTES,
    "max_subscriptions": _NUMBER,
    "presence_max_joins": _NUMBER,
    "presence_max_info": (_count(2), "a number of bytes of at least 2"),
    "max_handshake_size": _BYTES,
    "max_per_client": _NUMBER_OR_NONE,
    "rate": (_rate, 'a rate such as "20/s" or "100/min", or None'),
    "rate_burst": _NUMBER_OR_NONE,
    "rate_action": (
        lambda value: value if value in ("slow", "drop", "close") else _WRONG,
        '"slow", "drop" or "close"',
    ),
    "client_key": (_function, "a function, or None"),
    "detach": _FLAG,
    "cancel_on_close": _FLAG,
    "max_threads": _NUMBER,
    "max_connections": _NUMBER,
    "max_buffered": _BYTES_OR_NONE,
    "workers": _NUMBER,
    "drain": _SECONDS,
    "presence_grace": _SECONDS,
    "presence_lease": (_seconds(1), "a number of seconds of at least 1"),
    "handshake_rate": (_number(0, strict=True, optional=True), "a number above 0, or None"),
    "blocked_after": _SECONDS_OR_NONE,
    "uvloop": _FLAG,
}
