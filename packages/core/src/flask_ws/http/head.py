"""Heads of responses: that of a 101, and the headers of it that a server may see."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import flask
from werkzeug.exceptions import InternalServerError

from .handshake import Handshake
from .refusal import Refusal

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse

Headers = list[tuple[str, str]]

__all__ = [
    "NO_LENGTH",
    "SWITCHING",
    "Headers",
    "Unsendable",
    "answer_headers",
    "app_headers",
    "guard",
    "is_switch",
    "make_head",
    "seen_headers",
    "spoilt",
]

logger = logging.getLogger("flask_ws")

SWITCHING = "101 Switching Protocols"

#: Headers that a 426 must have (RFC 9110 section 15.5.22), and a WSGI app must not set (PEP 3333).
HOP_BY_HOP = frozenset({"connection", "upgrade"})
#: Headers that belong to the handshake (RFC 6455 section 4.2.2), or have no meaning on a 101 (RFC
#: 9110 sections 7.6.1 and 15.2). A client may fail because of an app's own values for them.
OURS = HOP_BY_HOP | {
    "content-length",
    "content-type",
    "keep-alive",
    "proxy-connection",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "te",
    "trailer",
    "transfer-encoding",
}
#: Tells middleware that validates responses that a 101 has no body.
NO_LENGTH = ("Content-Length", "0")
NO_BODY = [("Content-Type", "text/plain; charset=utf-8"), NO_LENGTH]

#: Valid names and values of headers (RFC 9110 sections 5.1 and 5.5).
NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Unsendable(Refusal, InternalServerError):
    """500: the app has set a header that cannot be on a 101.

    :param fault: what is wrong with it; for the log.
    """

    def __init__(self, fault: str) -> None:
        super().__init__(f"{fault}: an after_request function, or middleware, has set it.")


def is_switch(status: str) -> bool:
    """Tell whether a response's status is that of a WebSocket."""
    return status.startswith("101")


def answer_headers(handshake: Handshake, headers: Headers) -> Headers:
    """Put together the headers of a 101: the handshake's, and those of the app's that may be there.

    :param handshake: the handshake.
    :param headers: what Flask, the app and its middleware have made of them.
    """
    return [*handshake.headers, *app_headers(headers)]


def app_headers(headers: Headers) -> Headers:
    """Return those headers of a 101 that do not belong to the handshake itself."""
    return [(name, value) for name, value in headers if name.lower() not in OURS]


def make_head(headers: Headers) -> bytes:
    """Make the head of a 101. The server does not see it, so its headers are checked here.

    :param headers: its headers.
    :raises Unsendable: the app has set one that cannot be sent.
    """
    for name, value in headers:
        if not NAME.fullmatch(name):
            raise Unsendable(f"No header can be called {name!r}")
        if not VALUE.fullmatch(value):
            # The value itself may be a secret.
            wrong = next(character for character in value if not VALUE.fullmatch(character))
            raise Unsendable(f"The header {name} cannot have {wrong!r} in its value")
    lines = [f"HTTP/1.1 {SWITCHING}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def seen_headers(headers: Headers) -> Headers:
    """Return the headers of a 101 as servers may see them, and middleware around the app."""
    return [*(header for header in headers if header[0].lower() not in HOP_BY_HOP), *NO_BODY]


def spoilt() -> tuple[str, Headers]:
    """Return the head that replaces a 101 which is not flask-ws's, and log that."""
    where = f"{flask.request.method} {flask.request.path!r}" if flask.has_request_context() else "?"
    logger.error(
        "The app answered %s with status 101, and has accepted no WebSocket: the client got 500. "
        "Only a view of flask-ws's can answer so.",
        where,
    )
    return "500 Internal Server Error", NO_BODY[:1]


def guard(start_response: StartResponse, *, handshake: bool) -> StartResponse:
    """Wrap a server's start_response.

    Most servers let an app set ``Upgrade``, as a 426 must; one that raises an ``AssertionError``
    gets the 426 without it. A request that is no handshake gets no 101: a proxy would take what
    follows for a WebSocket.

    :param handshake: whether the request is one; then its gateway checks the 101.
    """

    def start(
        status: str, headers: Headers, exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        if is_switch(status) and not handshake:
            status, headers = spoilt()
        more = (exc_info,) if exc_info else ()
        if not status.startswith("426"):
            return start_response(status, headers, *more)
        try:
            return start_response(status, headers, *more)
        except AssertionError:
            headers = [header for header in headers if header[0].lower() not in HOP_BY_HOP]
            return start_response(status, headers, sys.exc_info())

    return start
