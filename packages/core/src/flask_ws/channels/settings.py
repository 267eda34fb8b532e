"""Which broker an app has, what its channels may be called, and what is kept of them."""

from __future__ import annotations

import fnmatch
import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..exceptions import ConfigurationError
from ..options import Options
from ..plugin.history import Retention

__all__ = [
    "DEFAULT_URL",
    "HISTORY_KEY",
    "HOOKS_PREFIX",
    "IDENTITY",
    "MAX_NAME_SIZE",
    "PRESENCE",
    "RESERVED",
    "URL_KEY",
    "FindRetention",
    "check_name",
    "is_counted",
    "make_matcher",
    "read_broker",
    "read_history",
    "read_presence",
]

URL_KEY = "SOCK_BROKER_URL"
PREFIX_KEY = "SOCK_BROKER_PREFIX"
HISTORY_KEY = "SOCK_HISTORY"
PRESENCE_KEYS = ("SOCK_PRESENCE_GRACE", "SOCK_PRESENCE_LEASE")
DEFAULT_URL = "memory://"
DEFAULT_PREFIX = "flask_ws:"

#: The most bytes that a channel's name may have in UTF-8. Clients may have chosen it.
MAX_NAME_SIZE = 255
#: What the names of channels begin with that are flask-ws's own; and those of a user's connections.
RESERVED = "\x1f"
IDENTITY = RESERVED + "identity:"
#: What the names of channels begin with on which changes of members are told; the channel follows.
PRESENCE = RESERVED + "presence:"
#: What the names of channels for functions begin with (``on_publish``); the pattern follows.
HOOKS_PREFIX = RESERVED + "on_publish:"
#: The names of channels for which it is remembered what is kept of them.
REMEMBERED = 4096

#: Tells what is kept of a channel; ``None`` if nothing is.
FindRetention = Callable[[str], "Retention | None"]


def read_broker(config: Mapping[str, Any]) -> tuple[str, str]:
    """Read an app's settings for the broker.

    :return: the URL and the prefix.
    :raises ConfigurationError: one of them is wrong.
    """
    url, prefix = config.get(URL_KEY), config.get(PREFIX_KEY)
    if url is None:
        url = DEFAULT_URL
    if prefix is None:
        prefix = DEFAULT_PREFIX
    if not isinstance(url, str):
        raise ConfigurationError(f"{URL_KEY} must be a URL, not a {type(url).__name__}.")
    if not isinstance(prefix, str):
        raise ConfigurationError(f"{PREFIX_KEY} must be text, not {prefix!r}.")
    try:
        prefix.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{PREFIX_KEY} cannot be encoded in UTF-8: {error.reason}."
        ) from None
    return url, prefix


def read_history(config: Mapping[str, Any]) -> FindRetention | None:
    """Read an app's setting for the histories of channels.

    A channel's name goes before patterns, and of these the first that matches counts.

    :return: a function that finds what is kept of a channel; ``None`` if nothing is of any.
    :raises ConfigurationError: the setting is wrong.
    """
    setting = config.get(HISTORY_KEY)
    if not setting and (setting is None or setting == {}):
        return None
    if not isinstance(setting, Mapping):
        raise ConfigurationError(
            f'{HISTORY_KEY} must be a dictionary such as {{"chat:*": (100, 300)}}, not {setting!r}.'
        )
    names: dict[str, Retention] = {}
    patterns: list[tuple[Callable[[str], object], Retention]] = []
    for pattern, value in setting.items():
        try:
            check_name(pattern)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{HISTORY_KEY}: {pattern!r}: {error}") from None
        retention = _read_retention(pattern, value)
        if is_pattern(pattern):
            patterns.append((make_matcher(pattern), retention))
        else:
            names[pattern] = retention

    @functools.lru_cache(REMEMBERED)
    def find(channel: str) -> Retention | None:
        # What is kept for a pattern's functions is what is kept of its channels.
        channel = channel.removeprefix(HOOKS_PREFIX)
        found = names.get(channel)
        if found is None and not channel.startswith(RESERVED):
            matching = (each for matches, each in patterns if matches(channel))
            found = next(matching, None)
        return found

    return find


def read_presence(config: Mapping[str, Any]) -> tuple[float, float]:
    """Read an app's settings for who is there.

    :return: the seconds for which a member stays whose connection has ended, and those for which
        members may outlive their process.
    :raises ConfigurationError: one of them is wrong.
    """
    options = Options.from_config({key: config[key] for key in PRESENCE_KEYS if key in config})
    return options.presence_grace, options.presence_lease


def is_counted(name: str) -> bool:
    """Tell whether a subscription to a channel counts as one of a connection's."""
    return name[0] != RESERVED or name.startswith(PRESENCE)


def is_pattern(text: str) -> bool:
    """Tell whether a text is a pattern, and not the name of a channel."""
    return any(char in text for char in "*?[")


def make_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a channel's name matches a pattern, or is that name."""
    match = re.compile(fnmatch.translate(pattern)).match
    return (lambda channel: match(channel) is not None) if is_pattern(pattern) else pattern.__eq__


def _read_retention(pattern: str, value: object) -> Retention:
    if isinstance(value, (tuple, list)) and len(value) == 2:
        messages, seconds = value
        is_right = (
            isinstance(messages, int)
            and isinstance(seconds, (int, float))
            and not isinstance(messages, bool)
            and not isinstance(seconds, bool)
            and messages >= 1
            and 0.001 <= seconds < math.inf
        )
        if is_right:
            return Retention(messages, seconds)
    raise ConfigurationError(
        f"{HISTORY_KEY}: {pattern!r} must have the number of messages that are kept, at least 1, "
        f"and the seconds, such as (100, 300), not {value!r}."
    )


def check_name(channel: object) -> None:
    """Check a channel's name.

    :raises TypeError: it is no ``str``.
    :raises ValueError: it is empty, has more than :data:`MAX_NAME_SIZE` bytes in UTF-8, has no
        UTF-8 because of a lone surrogate, which JSON may hold, or begins with :data:`RESERVED`.
    """
    if not isinstance(channel, str):
        raise TypeError(f"A channel's name is str, not {type(channel).__name__}.")
    if not channel:
        raise ValueError("A channel's name must not be empty.")
    if channel[0] == RESERVED:
        raise ValueError(f"A channel's name must not begin with {RESERVED!r}.")
    size = len(channel)
    if size <= MAX_NAME_SIZE and not channel.isascii():
        try:
            size = len(channel.encode())
        except UnicodeEncodeError as error:
            raise ValueError(
                f"A channel's name must be text that can be encoded in UTF-8: {error.reason}."
            ) from None
    if size > MAX_NAME_SIZE:
        raise ValueError(
            f"A channel's name must not be longer than {MAX_NAME_SIZE} bytes of UTF-8."
        )
