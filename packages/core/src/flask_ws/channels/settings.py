"""Which broker an app has, and what its channels may be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exceptions import ConfigurationError

__all__ = ["DEFAULT_URL", "MAX_NAME_SIZE", "URL_KEY", "check_name", "read_broker"]

URL_KEY = "SOCK_BROKER_URL"
PREFIX_KEY = "SOCK_BROKER_PREFIX"
DEFAULT_URL = "memory://"
DEFAULT_PREFIX = "flask_ws:"

#: The most bytes that a channel's name may have in UTF-8. Clients may have chosen it.
MAX_NAME_SIZE = 255


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
        raise ConfigurationError(f"{PREFIX_KEY} has no UTF-8: {error.reason}.") from None
    return url, prefix


def check_name(channel: object) -> None:
    """Check a channel's name.

    :raises TypeError: it is no ``str``.
    :raises ValueError: it is empty, has more than :data:`MAX_NAME_SIZE` bytes in UTF-8, or has no
        UTF-8 because of a lone surrogate, which JSON may hold.
    """
    if not isinstance(channel, str):
        raise TypeError(f"A channel's name is str, not {type(channel).__name__}.")
    if not channel:
        raise ValueError("A channel's name must not be empty.")
    size = len(channel)
    if size <= MAX_NAME_SIZE and not channel.isascii():
        try:
            size = len(channel.encode())
        except UnicodeEncodeError as error:
            raise ValueError(
                f"A channel's name must be text that UTF-8 can say: {error.reason}."
            ) from None
    if size > MAX_NAME_SIZE:
        raise ValueError(
            f"A channel's name must not be longer than {MAX_NAME_SIZE} bytes of UTF-8."
        )
