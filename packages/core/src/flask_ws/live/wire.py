"""The wire format ``flask-ws.v1``; the page "The wire format" is its reference."""

from __future__ import annotations

import base64
import functools
import json
import re
from typing import Any, NamedTuple

from ..channels.results import Subscription
from ..channels.wrapping import Wrapped, ready
from ..connection.async_connection import AnyConnection
from ..protocol.frames import TEXT
from ..protocol.shared import SharedMessage

__all__ = [
    "BAD_REQUEST",
    "SUBPROTOCOL",
    "Request",
    "Violation",
    "answer",
    "direct_for",
    "gap_of",
    "is_json",
    "read_request",
    "refusal",
    "wrapped_for",
]

SUBPROTOCOL = "flask-ws.v1"
#: The close code for what is no request; clients do not come back after it.
BAD_REQUEST = 4400
#: The greatest ``id``: what JavaScript can count to.
MAX_ID = 2**53 - 1
#: What Python writes, and JSON has not; and where it stands outside of strings.
CONSTANTS = ("NaN", "Infinity")
CONSTANT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|(NaN|Infinity)', re.DOTALL)
#: The channels for which what goes before their messages is remembered.
REMEMBERED = 4096


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


#: Made once: json.loads() and json.dumps() make one for each call that has options.
READER = json.JSONDecoder(parse_constant=_refuse)
WRITER = json.JSONEncoder(separators=(",", ":"))


class Violation(Exception):
    """What a client has sent is no request; the text says why, to complete a sentence."""


class Request(NamedTuple):
    """What a client asks for."""

    type: str
    #: Comes back in the answer.
    id: int
    channel: str | None
    #: The position up to which the client has the messages.
    since: str | None
    #: What is to be published; ``...`` if there is nothing.
    data: Any
    #: What others are to be told of the client.
    info: Any


def read_request(message: str | bytes) -> Request:
    """Read what a client has sent. What the format does not name is ignored.

    :raises Violation: it is no request.
    """
    if not isinstance(message, str):
        raise Violation("a message is text")
    try:
        found = READER.decode(message)
    except (ValueError, RecursionError):
        # The latter where it is nested too deeply.
        raise Violation("a message is JSON") from None
    if not isinstance(found, dict):
        raise Violation("a message is an object")
    kind, number = found.get("type"), found.get("id")
    if not isinstance(kind, str):
        raise Violation("type is text")
    if type(number) is not int or not 0 <= number <= MAX_ID:
        raise Violation("id is a whole number from 0 to 2**53 - 1")
    channel, since = found.get("channel"), found.get("since")
    if channel is not None and not isinstance(channel, str):
        raise Violation("channel is text")
    if since is not None and not isinstance(since, str):
        raise Violation("since is text")
    return Request(kind, number, channel, since, found.get("data", ...), found.get("info"))


def answer(kind: str, request: Request, **more: Any) -> str:
    """Write the answer to a request."""
    return write({"type": kind, "id": request.id, **more})


def refusal(request: Request, code: str, reason: str) -> str:
    """Write the answer to a request that is refused.

    :param code: one word, for programs.
    :param reason: a sentence, for people.
    """
    return answer("refused", request, code=code, reason=reason)


def write(value: object) -> str:
    """Write a value as JSON, for any client to read."""
    return WRITER.encode(value)


def is_json(text: str) -> bool:
    """Tell whether what a JSON library has written is JSON for others, too."""
    if not any(constant in text for constant in CONSTANTS):
        return True
    # Reading it might fail in one thread and not in another, where it is nested deeply.
    return not any(found[1] for found in CONSTANT.finditer(text))


def gap_of(channel: str) -> str:
    """Write what clients are told where messages of a channel are missing."""
    return write({"type": "gap", "channel": channel})


def wrapped_for(connection: AnyConnection, channel: str, request: Request) -> Wrapped:
    """Return what tells a client of the messages of a channel, and that it is subscribed."""

    def tell(subscription: Subscription) -> SharedMessage:
        text = answer(
            "subscribed",
            request,
            channel=channel,
            position=subscription.position,
            recovered=subscription.recovered,
        )
        return ready(SharedMessage(TEXT, text.encode()))

    return Wrapped(connection, _wrapper_of(channel), tell)


class Wrapper:
    """Puts the JSON around the messages of a channel.

    :param channel: its name.
    """

    __slots__ = ("_head",)

    def __init__(self, channel: str) -> None:
        self._head = f'{{"type":"message","channel":{write(channel)},"position":'

    def __call__(self, message: SharedMessage) -> SharedMessage:
        """Return a message as clients get it; made once for all of them, in this process."""
        position = message.position
        place = "null" if position is None else write(str(position))
        text = f"{self._head}{place},{_write_data(message)}}}"
        message.wrapped = SharedMessage(TEXT, text.encode())
        return message.wrapped


_wrapper_of = functools.lru_cache(REMEMBERED)(Wrapper)


def direct_for(connection: AnyConnection) -> Wrapped:
    """Return what sends a client the messages to its user."""
    return Wrapped(connection, _wrap_direct)


def _wrap_direct(message: SharedMessage) -> SharedMessage:
    text = f'{{"type":"direct",{_write_data(message)}}}'
    message.wrapped = SharedMessage(TEXT, text.encode())
    return message.wrapped


def _write_data(message: SharedMessage) -> str:
    """Write what a message says, as the last key of an object."""
    payload = bytes(message.payload)
    if message.first != TEXT:
        return f'"base64":{write(base64.b64encode(payload).decode())}'
    value = payload.decode()
    if not (message.is_json and is_json(value)):
        value = write(value)
    return f'"data":{value}'
