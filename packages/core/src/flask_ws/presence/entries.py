"""What is said of a member: its key, and what others are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["make_entry", "read_entry", "read_key"]

#: The most bytes that a key may have in UTF-8.
MAX_KEY_SIZE = 255
decoder = json.JSONDecoder()


def read_key(key: object, identity: str | None) -> str:
    """Return a member's key.

    :param key: what the app says; ``None`` for the identity.
    :param identity: who the client is, if that is known.
    :raises TypeError: it is neither text nor a whole number.
    :raises ValueError: there is none, or it cannot be one.
    """
    if key is None:
        if identity is None:
            raise ValueError(
                "join() needs a key here, since the connection has no identity: "
                "join(channel, key=...), or declare who clients are by @sock.identify."
            )
        return identity
    if isinstance(key, int) and not isinstance(key, bool):
        # As a table's ids are.
        key = str(key)
    if not isinstance(key, str):
        raise TypeError(f"A key is text or a whole number, not {type(key).__name__}.")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"A key must be text that UTF-8 can say: {error.reason}.") from None
    if not 0 < size <= MAX_KEY_SIZE:
        raise ValueError(f"A key has 1 to {MAX_KEY_SIZE} bytes of UTF-8.")
    return key


def make_entry(key: str, info: Any, dumps: Callable[[Any], str], limit: int) -> bytes:
    """Return what a broker keeps of a member: its key and its info, as JSON.

    :param info: what others are told: any JSON; ``None`` for an empty object.
    :param dumps: writes the app's JSON.
    :param limit: the most bytes of the info.
    :raises TypeError: ``dumps`` cannot write it.
    :raises ValueError: it is too long, nested too deeply, or no JSON.
    """
    try:
        text = dumps({} if info is None else info)
        # Equal infos have one text, whoever has written it.
        text = write(json.loads(text, parse_constant=_refuse), sort_keys=True)
    except RecursionError:
        raise ValueError("The info of a member is nested too deeply.") from None
    if len(text) > limit:
        raise ValueError(
            f"The info of a member has {len(text)} bytes of JSON; "
            f"it may have {limit} (SOCK_PRESENCE_MAX_INFO)."
        )
    return f"{write(key)} {text}".encode()


def read_entry(data: bytes) -> tuple[str, str] | None:
    """Return the key, and the info's JSON; ``None`` if it is not from flask-ws."""
    try:
        text = data.decode()
        key, end = decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return (key, text[end + 1 :]) if isinstance(key, str) else None


def write(value: object, *, sort_keys: bool = False) -> str:
    """Write JSON, in ASCII."""
    return json.dumps(value, separators=(",", ":"), sort_keys=sort_keys)


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}.")
